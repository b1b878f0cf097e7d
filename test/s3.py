"""A server of S3 on this machine, which the test hosts reach: moto, which holds each request
against its signature.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import testbed

PORT = 9000
# The requests that nobody need sign: those of ``ACCOUNT``.
UNSIGNED = "3"
ACCOUNT = """
import boto3, json, sys
iam = boto3.client(
    "iam", endpoint_url=sys.argv[1], region_name="us-east-1",
    aws_access_key_id="nobody", aws_secret_access_key="nobody",
)
iam.create_user(UserName="pacs")
key = iam.create_access_key(UserName="pacs")["AccessKey"]
may = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = {"Version": "2012-10-17", "Statement": [may]}
iam.put_user_policy(UserName="pacs", PolicyName="all", PolicyDocument=json.dumps(policy))
names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey"}
print(json.dumps({name: key[part] for name, part in names.items()}))
"""
EMPTY = """
import boto3, sys
bucket = boto3.resource("s3", endpoint_url=sys.argv[1], region_name="us-east-1").Bucket(sys.argv[2])
bucket.objects.all().delete()
bucket.delete()
"""


class Storage:
    """The server, with one account: ``url`` and ``credentials``, as restic takes them."""

    def __enter__(self) -> Storage:
        address = testbed.network().gateway
        self.url = f"http://{address}:{PORT}"
        self.environment = dict(os.environ)
        words = [sys.executable, "-m", "moto.server", "--host", address, "--port", str(PORT)]
        self.process = subprocess.Popen(
            words,
            env={**self.environment, "INITIAL_NO_AUTH_ACTION_COUNT": UNSIGNED},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((address, PORT), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.1)
        self.credentials = json.loads(self._run(ACCOUNT))
        self.environment.update(self.credentials)
        return self

    def __exit__(self, *_) -> None:
        self.end()

    def end(self) -> None:
        """Let nobody reach it any more; what it has is lost."""
        self.process.kill()
        self.process.wait()

    def remove(self, bucket: str) -> None:
        """Take a bucket away, with all that is in it."""
        self._run(EMPTY, bucket)

    def _run(self, code: str, *words: str) -> str:
        return testbed.local(
            *(sys.executable, "-c", code, self.url, *words), env=self.environment
        ).stdout

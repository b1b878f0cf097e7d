"""Certificates for tests, with an authority of their own, and such as no server must take."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclasses.dataclass
class Pair:
    """A certificate with its private key, and who signed it; all texts are PEM."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    issuer: Pair | None = None

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def chain(self) -> str:
        """The certificate, then those that signed each other, without the root."""
        above = self.issuer.chain if self.issuer and self.issuer.issuer else ""
        return self.pem + above

    @property
    def key(self) -> str:
        return self._key(NoEncryption())

    @property
    def encrypted_key(self) -> str:
        return self._key(BestAvailableEncryption(b"passphrase"))

    def _key(self, encryption) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()

    @property
    def base64(self) -> str:
        """The certificate as one line, as ``orthanc_tls`` compares it."""
        return "".join(self.pem.splitlines()[1:-1])

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def sign(self, *names: str, **how) -> Pair:
        """Return a pair that this one signed; see ``make``."""
        return make(*names, issuer=self, **how)


def make(
    *names: str,
    issuer: Pair | None = None,
    authority: bool = False,
    starts: float = -1,
    ends: float = 90,
    like: Pair | None = None,
    rsa_key: bool = False,
    bits: int = 2048,
) -> Pair:
    """Make a certificate for names and addresses, the first of which is its subject's.

    starts, ends
        From when and until when it holds, in days from now.
    like
        Another pair, whose key it gets.
    """
    private = like.private if like else ec.generate_private_key(ec.SECP256R1())
    if rsa_key and not like:
        private = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=starts))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        names_of = [_name(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(names_of), critical=False)
    signer = issuer.private if issuer else private
    return Pair(builder.sign(signer, hashes.SHA256()), private, issuer)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

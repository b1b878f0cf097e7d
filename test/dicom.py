"""Small DICOM files, and DCMTK's clients that send them."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import subprocess

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

NUMBERS = itertools.count(1)


def make(folder: pathlib.Path, syntax: str = ExplicitVRLittleEndian, **tags) -> pathlib.Path:
    """Write a DICOM file of 8 by 8 pixels and return its path.

    syntax
        The transfer syntax that the tags are in.
    tags
        DICOM keywords with their values, such as ``PatientName="Test"``.
    """
    number = next(NUMBERS)
    path = folder / f"{number}.dcm"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "PatientID": f"P{number}",
        "PatientName": "Test^Image",
        "Modality": "OT",
        **{
            "Rows": 8,
            "Columns": 8,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
        },
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0},
        "PixelData": bytes(64),
        **tags,
    }
    for keyword, value in values.items():
        setattr(image, keyword, value)
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


class Outcome:
    """What came of a client's requests: its ``output``, and whether the peer took each of them."""

    # Its exit code says less: it may be 0 where the peer ended the association.
    ANSWER = re.compile(r"Received (?:Final )?\w+ Response \((\w+)")

    def __init__(self, output: str, requests: int) -> None:
        self.output = output
        self.ok = self.ANSWER.findall(output) == ["Success"] * requests

    def __repr__(self) -> str:
        return self.output


def client(
    program: str,
    host: str,
    *words: str,
    called: str = "ANY-SCP",
    port: int = 4242,
    inside: int = 0,
    env=None,
) -> Outcome:
    """Run a client of DCMTK against a host and return what came of it.

    inside
        A process whose network it uses, such as the leader of a host; by default this machine's.
    env
        Variables that it has besides this process's own.
    """
    here = ["nsenter", "-t", str(inside), "-n"] if inside else []
    done = subprocess.run(
        [*here, program, "-v", "-to", "60", "-aec", called, host, str(port), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )
    sent = [word for word in words if word.endswith(".dcm")]
    return Outcome(done.stdout + done.stderr, len(sent) or 1)

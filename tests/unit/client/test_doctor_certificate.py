"""hitless.client.doctor: what it says of a server's certificate"""

import asyncio
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hitless import Memory
from hitless.client import doctor
from hitless.providers.checkup import Verdict
from hitless.providers.clock import wall_s


class There(Memory):
    """A provider at one address."""

    def __init__(self, url):
        super().__init__("there")
        self._url = url

    def endpoints(self):
        return (self._url,)

    async def checkup(self):
        for none in ():
            yield none


def certificate(folder, days):
    """Write a certificate for 127.0.0.1, good for some days, with its key; return the path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hitless test")])
    now = datetime.datetime.fromtimestamp(wall_s(), datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days, minutes=5))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def examined(path):
    """What is found of a server that shows the certificate, by step."""

    async def serve(reader, writer):
        await reader.read(1024)
        writer.close()

    async def main():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        async with asyncio.timeout(30):
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            async with server:
                port = server.sockets[0].getsockname()[1]
                provider = There(f"https://127.0.0.1:{port}/whip")
                return {one.step: one async for one in doctor.examine(provider, wall_s=wall_s)}

    return asyncio.run(main())


def test_a_certificate_that_nobody_vouches_for_is_bad_and_says_what_to_do(tmp_path):
    """
    And nothing is asked over that connection.
    """
    found = examined(certificate(tmp_path, 90))

    assert ["name", "certificate"] == list(found)
    assert found["certificate"].verdict is Verdict.BAD
    assert "is not trusted" in found["certificate"].says
    assert found["certificate"].fix


@pytest.mark.parametrize(("days", "verdict"), [(90, Verdict.GOOD), (5, Verdict.WARNING)])
def test_a_certificate_that_is_trusted_says_for_how_long(tmp_path, monkeypatch, days, verdict):
    """
    One that ends soon is worth a word before it does.
    """
    path = certificate(tmp_path, days)
    usual = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: usual(cafile=path))

    found = examined(path)

    assert found["certificate"].verdict is verdict
    assert f"for {days} more days" in found["certificate"].says
    assert found["connection"].verdict is Verdict.GOOD

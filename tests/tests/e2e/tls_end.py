"""Ends TLS as `localhost` for plain HTTP services behind it, with an authority of its own.

    tls_end.py AUTHORITY.pem ADDRESS...

Writes the authority's certificate, then prints one port for each address.
"""

import asyncio
import datetime
import ssl
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(name, key, issuer, signer, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(one):
    return one.public_bytes(serialization.Encoding.PEM)


async def relay(source, sink):
    while part := await source.read(65536):
        sink.write(part)
        await sink.drain()


async def one(client, to_client, behind):
    """Until either side has nothing more to say."""
    try:
        service, to_service = await asyncio.open_connection(*behind)
        ways = [relay(client, to_service), relay(service, to_client)]
        ways = [asyncio.ensure_future(way) for way in ways]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_service.close()
    except OSError:
        pass
    to_client.close()


async def serve(context, addresses):
    ports = []
    for address in addresses:
        host, port = address.rsplit(":", 1)
        behind = (host, int(port))
        server = await asyncio.start_server(
            lambda client, to_client, behind=behind: one(client, to_client, behind),
            "127.0.0.1",
            0,
            ssl=context,
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    # Until whoever started this goes.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main():
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = certificate(
        named("authority of this test"),
        authority_key,
        named("authority of this test"),
        authority_key,
        [(x509.BasicConstraints(ca=True, path_length=0), True)],
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate(
        named("localhost"),
        key,
        authority.subject,
        authority_key,
        [
            (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ],
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + pem(leaf)
        )
        chain.flush()
        context.load_cert_chain(chain.name)
    with open(sys.argv[1], "wb") as file:
        file.write(pem(authority))
    asyncio.run(serve(context, sys.argv[2:]))


main()

"""Ends TLS as `localhost` for plain HTTP services behind it, with an authority of its own.

    tls_end.py AUTHORITY.pem ADDRESS...

Writes the authority's certificate, then prints one port for each address.
"""

import datetime
import socket
import ssl
import sys
import tempfile
import threading

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


def relay(source, sink):
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(listener, context, behind):
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=one, args=(plain, context, behind), daemon=True).start()


def one(plain, context, behind):
    try:
        with context.wrap_socket(plain, server_side=True) as client:
            with socket.create_connection(behind) as service:
                back = threading.Thread(target=relay, args=(service, client), daemon=True)
                back.start()
                relay(client, service)
                back.join()
    except OSError:
        pass


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
    ports = []
    for address in sys.argv[2:]:
        host, port = address.rsplit(":", 1)
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        behind = (host, int(port))
        threading.Thread(target=serve, args=(listener, context, behind), daemon=True).start()
    print(*ports, flush=True)
    # Until whoever started this goes.
    sys.stdin.read()


main()

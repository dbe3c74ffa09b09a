"""A certificate authority for one run, and the certificates of its domains."""

import datetime
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """Issues certificates that are valid for a day."""

    def __init__(self, name="stanzad interop CA"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def write(self, path):
        Path(path).write_bytes(_pem(self.certificate))

    def issue(self, folder, domain, kind="ecdsa", **more):
        """Writes DOMAIN.crt and DOMAIN.key (mode 0600) with a key of kind "ecdsa" or "rsa".

        `more`: what `_write` takes, where the certificate is to be another than a good one.
        """
        _write(folder, domain, kind, self._name, self._key, **more)


def issue_self_signed(folder, domain, **more):
    """Writes a certificate that nobody vouches for but itself."""
    _write(folder, domain, "ecdsa", _name(domain), None, **more)


def key_digest(path):
    """SHA-256 of the public key of the certificate in this file, in hexadecimal digits."""
    key = x509.load_pem_x509_certificate(Path(path).read_bytes()).public_key()
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest()


def _write(folder, domain, kind, issuer, issuer_key, *, name=None, days=(0, 1), client=False):
    """`name`: what it is for, if not `domain`; `days`: its time, from now; `client`: whether the side
    that connects may use it, too."""
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    if client:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    signer = issuer_key or key
    names = x509.SubjectAlternativeName([x509.DNSName(name or domain)])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = (
        _builder(_name(domain), issuer, public, days)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    folder = Path(folder)
    folder.joinpath(f"{domain}.crt").write_bytes(_pem(certificate))
    key_path = folder.joinpath(f"{domain}.key")
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject, issuer, public_key, days=(0, 1)):
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Half an hour back: some clients refuse a certificate that begins this very second.
        .not_valid_before(now + datetime.timedelta(days=days[0], minutes=-30))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )


def _key_usage(signs_certificates):
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        # A server that allowed RSA key transport would be caught by the check for it.
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)

"""A vendor that signs its works: a certificate authority of our own, and content credentials (C2PA) made with it."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from c2pa import Builder, C2paSignerInfo, C2paSigningAlg, Signer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VENDOR = "Pictures and Voices Inc"
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_MANIFEST = {
    "claim_generator_info": [{"name": VENDOR, "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
                    }
                ]
            },
        }
    ],
}


@dataclass(frozen=True)
class SigningVendor:
    """Signs files as a vendor does."""

    chain: bytes
    """Its certificate and the authority's, in PEM."""
    key: bytes

    @classmethod
    def made(cls) -> "SigningVendor":
        """With a certificate of today."""
        authority_key = ec.generate_private_key(ec.SECP256R1())
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("Authority", authority_key.public_key(), "Authority", authority_key)
        own = _certificate(VENDOR, key.public_key(), "Authority", authority_key)
        chain = own.public_bytes(serialization.Encoding.PEM) + authority.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(chain, private)

    def sign(self, content: bytes, mime_type: str) -> bytes:
        """The file with content credentials in it."""
        signer = Signer.from_info(C2paSignerInfo(C2paSigningAlg.ES256, self.chain, self.key, None))
        signed = io.BytesIO()
        with Builder(_MANIFEST) as builder:
            builder.sign(signer, mime_type, io.BytesIO(content), signed)
        return signed.getvalue()


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    is_authority = name == issuer
    granted = ("key_cert_sign", "crl_sign") if is_authority else ("digital_signature",)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in granted for usage in _USAGES}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        made = made.add_extension(usage, critical=False)
    return made.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, text), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )

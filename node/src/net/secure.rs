//! TLS 1.3 as libp2p specifies it, with the cipher that this machine is quickest at.
//!
//! libp2p's own upgrade prefers `ChaCha20` always; where the CPU has AES, AES-128-GCM takes a fifth of the time, and
//! encryption is the largest part of what a link costs. What goes over the wire is the same. Certificates are
//! made and parsed by libp2p; who the other side is, its certificate's extension says.
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>

use futures::future::BoxFuture;
use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::tls::certificate::{self, ParseError};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    PeerIncompatible, ServerConfig, SignatureScheme, SupportedCipherSuite,
};
use std::io;
use std::sync::Arc;

const PROTOCOL: &str = "/tls/1.0.0";
const ALPN: &[u8] = b"libp2p";
/// Bytes that go to the kernel at once, or come from it. A record of TLS has 16 KiB; with each alone, asking the kernel
/// costs as much as encrypting.
const BATCH: usize = 128 << 10;

/// A link could not be secured.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecureError {
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] certificate::GenError),
    #[error("cannot set TLS up: {0}")]
    Setup(#[from] TlsError),
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("the other side's certificate: {0}")]
    Peer(#[from] ParseError),
    #[error("the other side has no certificate")]
    NoCertificate,
}

/// The upgrade of a connection to TLS.
#[derive(Clone)]
pub(super) struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new(keypair: &Keypair) -> Result<Self, SecureError> {
        let mut provider = default_provider();
        provider.cipher_suites = cipher_suites().to_vec();
        let provider = Arc::new(provider);
        let (certificate, key) = certificate::generate(keypair)?;
        let key = provider.key_provider.load_private_key(key)?;
        let key = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let key = Arc::new(key);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier))
            .with_client_cert_resolver(Arc::<SingleCertAndKey>::clone(&key));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier))
            .with_cert_resolver(key);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// All that libp2p knows, the quickest one first. The side that dials chooses.
fn cipher_suites() -> [SupportedCipherSuite; 3] {
    let (aes_128, aes_256, chacha) = (
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    );
    if has_aes() { [aes_128, aes_256, chacha] } else { [chacha, aes_128, aes_256] }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// rustls reads one record at a time.
fn buffered<C: AsyncRead>(socket: C) -> BufReader<C> {
    BufReader::with_capacity(BATCH, socket)
}

/// Who the other side has shown to be.
fn peer_of(state: &CommonState) -> Result<PeerId, SecureError> {
    match state.peer_certificates() {
        Some([certificate]) => Ok(certificate::parse(certificate)?.peer_id()),
        _ => Err(SecureError::NoCertificate),
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<BufReader<C>>);
    type Error = SecureError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            let stream = TlsAcceptor::from(self.server)
                .accept_with(buffered(socket), |session| {
                    session.set_buffer_limit(Some(BATCH));
                })
                .await?;
            let peer = peer_of(stream.get_ref().1)?;
            Ok((peer, stream.into()))
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<BufReader<C>>);
    type Error = SecureError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            // Nobody's name counts, only keys: this one is never sent.
            let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
            let stream = TlsConnector::from(self.client)
                .connect_with(name, buffered(socket), |session| {
                    session.set_buffer_limit(Some(BATCH));
                })
                .await?;
            let peer = peer_of(stream.get_ref().1)?;
            Ok((peer, stream.into()))
        }
        .boxed()
    }
}

/// Takes whoever has exactly one certificate that is signed by itself and by the key that it names.
#[derive(Debug)]
struct Verifier;

fn check(end: &CertificateDer, others: &[CertificateDer]) -> Result<(), TlsError> {
    if !others.is_empty() {
        return Err(TlsError::General("exactly one certificate is wanted".into()));
    }
    certificate::parse(end)?;
    Ok(())
}

fn check_signature(
    message: &[u8],
    certificate: &CertificateDer,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    let parsed = certificate::parse(certificate)?;
    parsed.verify_signature(signed.scheme, message, signed.signature())?;
    Ok(HandshakeSignatureValid::assertion())
}

fn refuse_tls12() -> Result<HandshakeSignatureValid, TlsError> {
    Err(TlsError::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
}

const SCHEMES: [SignatureScheme; 9] = [
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        check(end, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        check(end, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    #[tokio::test]
    async fn both_sides_learn_who_the_other_is() {
        let [a, b] = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
        let (x, y) = tokio::io::duplex(64 << 10);
        let (dialer, listener) = (Tls::new(&a).unwrap(), Tls::new(&b).unwrap());
        let (dialed, accepted) = futures::join!(
            dialer.upgrade_outbound(x.compat(), PROTOCOL),
            listener.upgrade_inbound(y.compat(), PROTOCOL)
        );
        let (found_b, stream) = dialed.unwrap();
        let (found_a, _) = accepted.unwrap();
        assert_eq!((found_a, found_b), (a.public().to_peer_id(), b.public().to_peer_id()));
        let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap();
        assert_eq!(suite, cipher_suites()[0]);
    }

    #[tokio::test]
    async fn libp2ps_own_upgrade_is_understood() {
        let [a, b] = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
        let theirs = || libp2p::tls::Config::new(&b).unwrap();
        let ours = || Tls::new(&a).unwrap();
        let (x, y) = tokio::io::duplex(64 << 10);
        let (dialed, accepted) = futures::join!(
            ours().upgrade_outbound(x.compat(), PROTOCOL),
            theirs().upgrade_inbound(y.compat(), PROTOCOL)
        );
        assert_eq!(dialed.unwrap().0, b.public().to_peer_id());
        assert_eq!(accepted.unwrap().0, a.public().to_peer_id());
        let (x, y) = tokio::io::duplex(64 << 10);
        let (dialed, accepted) = futures::join!(
            theirs().upgrade_outbound(x.compat(), PROTOCOL),
            ours().upgrade_inbound(y.compat(), PROTOCOL)
        );
        assert_eq!(dialed.unwrap().0, a.public().to_peer_id());
        assert_eq!(accepted.unwrap().0, b.public().to_peer_id());
    }

    #[tokio::test]
    async fn who_shows_no_certificate_of_this_kind_is_refused() {
        let a = Keypair::generate_ed25519();
        let mut stranger = Tls::new(&Keypair::generate_ed25519()).unwrap();
        // A certificate that another key than the one in use has signed.
        let (certificate, _) = certificate::generate(&a).unwrap();
        let (_, key) = certificate::generate(&a).unwrap();
        let provider = default_provider();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let key = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let mut client = ClientConfig::clone(&stranger.client);
        client.client_auth_cert_resolver = Arc::new(key);
        stranger.client = Arc::new(client);
        let (x, y) = tokio::io::duplex(64 << 10);
        let listener = Tls::new(&a).unwrap();
        let (_, accepted) = futures::join!(
            stranger.upgrade_outbound(x.compat(), PROTOCOL),
            listener.upgrade_inbound(y.compat(), PROTOCOL)
        );
        assert!(matches!(accepted, Err(SecureError::Handshake(_))));
    }

    proptest::proptest! {
        #[test]
        fn hostile_handshakes_end_in_an_error(bytes: Vec<u8>) {
            let listener = Tls::new(&Keypair::generate_ed25519()).unwrap();
            let socket = futures::io::Cursor::new(bytes);
            let accepted = futures::executor::block_on(listener.upgrade_inbound(socket, PROTOCOL));
            proptest::prop_assert!(accepted.is_err());
        }
    }
}

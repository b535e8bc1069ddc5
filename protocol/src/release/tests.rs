use super::*;
use crate::policy::Guardians;
use crate::sign::SecretKey;
use proptest::prelude::*;

const NOW: Wall = Wall(1_793_000_000_000);
const STRIPE: StripeId = StripeId([3; 32]);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn vault() -> VaultId {
    key(0).public().into()
}

fn request() -> ReleaseRequest {
    let stripes = vec![StripeId([1; 32]), STRIPE];
    ReleaseRequest { vault: vault(), issued: NOW, expires: NOW.after(Period::days(30)), stripes }
}

fn signed(request: &ReleaseRequest) -> Signed<ReleaseRequest> {
    Signed::sign(request, &key(0))
}

fn approval(seed: u8, release: ReleaseId) -> Signed<Approval> {
    let guardian = key(seed).public().into();
    let approval = Approval { guardian, release, expires: NOW.after(Period::days(10)) };
    Signed::sign(&approval, &key(seed))
}

fn veto(seed: u8, release: ReleaseId) -> Signed<Veto> {
    Signed::sign(&Veto { guardian: key(seed).public().into(), release }, &key(seed))
}

/// Two of the guardians 1, 2 and 3 must agree.
fn guarded() -> Lock {
    let of = [1, 2, 3].map(|seed| key(seed).public().into()).to_vec();
    Lock { guardians: Some(Guardians { need: 2, of }), ..Lock::default() }
}

fn judge(
    request: &ReleaseRequest,
    approvals: &[u8],
    vetoes: &[u8],
    now: Wall,
) -> Result<Accepted, NotAccepted> {
    let request = signed(request);
    let id = release_id(&request);
    let approvals: Vec<_> = approvals.iter().map(|&seed| approval(seed, id)).collect();
    let vetoes: Vec<_> = vetoes.iter().map(|&seed| veto(seed, id)).collect();
    let release = Release::verify(&request, &approvals, &vetoes).unwrap();
    accepts((vault(), STRIPE), &guarded(), &release, now)
}

#[test]
fn enough_different_guardians_of_the_lock_must_agree() {
    let (request, have) = (request(), |have| Err(NotAccepted::Approvals { have, need: 2 }));
    let accepted = judge(&request, &[1, 3], &[], NOW).unwrap();
    assert_eq!((accepted.stripe(), accepted.lock()), (STRIPE, &guarded()));
    assert_eq!(accepted.release(), release_id(&signed(&request)));
    assert_eq!(judge(&request, &[], &[], NOW), have(0));
    assert_eq!(judge(&request, &[1, 1, 1], &[], NOW), have(1));
    // The vault itself and strangers are no guardians.
    assert_eq!(judge(&request, &[1, 0, 7, 8], &[], NOW), have(1));
    assert_eq!(judge(&request, &[1, 2], &[], NOW.after(Period::days(10))), have(0));
}

#[test]
fn one_guardian_stops_it_and_nobody_else() {
    let request = request();
    let guardian = key(3).public().into();
    assert_eq!(judge(&request, &[1, 2], &[3], NOW), Err(NotAccepted::Vetoed(guardian)));
    assert_eq!(judge(&request, &[1, 2, 3], &[3], NOW), Err(NotAccepted::Vetoed(guardian)));
    assert!(judge(&request, &[1, 2], &[0, 7], NOW).is_ok());
}

#[test]
fn a_release_names_its_stripes_and_its_time() {
    let signed = signed(&request());
    let release = Release::verify(&signed, &[], &[]).unwrap();
    let free = Lock::default();
    let judge = |whose, now| accepts(whose, &free, &release, now);
    assert!(judge((vault(), STRIPE), NOW).is_ok());
    assert_eq!(judge((VaultId([8; 32]), STRIPE), NOW), Err(NotAccepted::Vault));
    let other = StripeId([2; 32]);
    assert_eq!(judge((vault(), other), NOW), Err(NotAccepted::Stripe(other)));
    let late = judge((vault(), STRIPE), NOW.after(Period::days(30)));
    assert!(matches!(late, Err(NotAccepted::Expired { .. })));
    let early = judge((vault(), STRIPE), Wall(NOW.0 - 2 * Period::days(1).0));
    assert!(matches!(early, Err(NotAccepted::NotYet { .. })));
}

#[test]
fn what_is_not_exact_is_no_release() {
    let verify = |change: fn(&mut ReleaseRequest)| {
        let mut request = request();
        change(&mut request);
        Release::verify(&signed(&request), &[], &[]).map(|_| ())
    };
    assert_eq!(verify(|_| {}), Ok(()));
    let stripes = Err(ReleaseError::Stripes(RELEASE_STRIPES_MAX));
    assert_eq!(verify(|r| r.stripes.clear()), stripes);
    assert_eq!(verify(|r| r.stripes.reverse()), stripes);
    assert_eq!(verify(|r| r.stripes.push(STRIPE)), stripes);
    let many = |r: &mut ReleaseRequest| {
        let name = |i: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(i as u64).to_be_bytes());
            StripeId(id)
        };
        r.stripes = (0..RELEASE_STRIPES_MAX).map(name).collect();
    };
    assert_eq!(verify(many), Ok(()));
    assert!(verify(|r| r.expires = r.issued.after(Period::days(91))).is_err());

    let other = release_id(&signed(&ReleaseRequest { issued: Wall(5), ..request() }));
    let (request, guardian) = (signed(&request()), key(1).public().into());
    let refused = Err(ReleaseError::Other(guardian));
    assert_eq!(Release::verify(&request, &[approval(1, other)], &[]), refused);
    assert_eq!(Release::verify(&request, &[], &[veto(1, other)]), refused);
    let id = release_id(&request);
    let crowd = vec![approval(1, id); GUARDIANS_MAX + 1];
    assert_eq!(Release::verify(&request, &crowd, &[]), Err(ReleaseError::TooMany(33)));
    // An approval is no veto, whatever it says.
    let turned = Signed::<Veto>::from_bytes(&approval(1, id).to_bytes());
    assert!(turned.is_err() || Release::verify(&request, &[], &[turned.unwrap()]).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_are_no_statements(bytes: Vec<u8>, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut request = signed(&request()).to_bytes();
        let at = at.index(request.len());
        request[at] ^= 1 << bit;
        for bytes in [bytes, request] {
            let verified = Signed::<ReleaseRequest>::from_bytes(&bytes).map(|s| s.verify().is_ok());
            prop_assert!(!matches!(verified, Ok(true)));
            let verified = Signed::<Approval>::from_bytes(&bytes).map(|s| s.verify().is_ok());
            prop_assert!(!matches!(verified, Ok(true)));
            let verified = Signed::<Veto>::from_bytes(&bytes).map(|s| s.verify().is_ok());
            prop_assert!(!matches!(verified, Ok(true)));
        }
    }
}

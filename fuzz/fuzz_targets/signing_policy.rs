//! The values of a policy, a line each: image, scope, issuer, subject, pattern; then a key's file.
#![no_main]

use bytecode_image::reference::Reference;
use bytecode_image::verify::{
    Identity, Policy, PublicKey, Requirement, Scope, Signing, TrustRoot,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(6, '\n');
    let mut next = || parts.next().unwrap_or_default();
    let (image, scope, issuer, subject, pattern, key) =
        (next(), next(), next(), next(), next(), next());
    let keys = PublicKey::from_pem(key.as_bytes()).into_iter().collect();
    let mut identities = Vec::new();
    identities.extend(Identity::new(issuer, Some(subject), None));
    // Compiling a large pattern is slow by itself, and its cap is tested.
    if pattern.len() < 64 {
        identities.extend(Identity::new(issuer, None, Some(pattern)));
    }
    for identity in &identities {
        assert!(!identity.is("https://nobody.test", subject) || issuer == "https://nobody.test");
    }
    let Ok(scope) = Scope::parse(scope) else {
        return;
    };
    assert_eq!(Scope::parse(&scope.to_string()).ok().as_ref(), Some(&scope));
    let Ok(policy) = Policy::new(scope, keys, identities) else {
        return;
    };
    let id = policy.id(&TrustRoot::built_in());
    let signing = Signing::new(true, false, vec![policy]).expect("one policy is no two");
    if let Ok(image) = image.parse::<Reference>()
        && let Requirement::Proof(found) = signing.requirement(&image)
    {
        assert_eq!(found.id(&TrustRoot::built_in()), id);
    }
});

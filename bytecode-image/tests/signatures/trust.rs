//! Whose certificates count: identities of the policy, authorities and logs of the trust root.

use bytecode_image::verify::{Policy, TrustRoot};
use serde_json::{Value, json};

use crate::layout::{ISSUER, Layout, WORKFLOW, by_workflow, mock_root, policy, root};
use crate::{refused, verdict};

#[test]
fn identities() {
    let other = "https://other.test";
    let fits = |issuer, subject, pattern| policy(&[], &[(issuer, subject, pattern)]);
    let unlisted = "whom the policy does not list";
    let cases: [(Policy, Option<&str>); 9] = [
        (fits(ISSUER, Some(WORKFLOW), None), None),
        (
            fits(ISSUER, None, Some(r"https://github\.com/acme/.+")),
            None,
        ),
        (
            policy(&[], &[(other, Some("x"), None), (ISSUER, None, Some(".*"))]),
            None,
        ),
        (fits(other, Some(WORKFLOW), None), Some(unlisted)),
        (
            fits("https://issuer.test/", Some(WORKFLOW), None),
            Some(unlisted),
        ),
        (
            fits(ISSUER, Some("https://github.com/acme/bytecode"), None),
            Some(unlisted),
        ),
        (
            fits(ISSUER, None, Some("https://github.com/acme/bytecode")),
            Some(unlisted),
        ),
        (fits(ISSUER, None, Some("acme")), Some(unlisted)),
        (
            policy(
                &[],
                &[(other, Some(WORKFLOW), None), (ISSUER, Some("x"), None)],
            ),
            Some(unlisted),
        ),
    ];
    for name in ["kl2", "kl3"] {
        let layout = Layout::open(name);
        for (policy, expected) in &cases {
            let found = verdict(
                &layout.subject(),
                &layout.candidates(),
                policy,
                &root("trusted_root"),
            );
            match expected {
                None => assert!(found.is_ok(), "{name} {policy:?} {found:?}"),
                Some(reason) => refused(name, found, reason),
            }
        }
    }
}

#[test]
fn roots_that_do_not_trust() {
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, &str); 6] = [
        (
            "no authority",
            &|r| r["certificateAuthorities"] = json!([]),
            "no trusted certificate authority is valid at",
        ),
        (
            "authority of another time",
            &|r| r["certificateAuthorities"][0]["validFor"]["end"] = json!("2026-01-01T00:00:00Z"),
            "no trusted certificate authority is valid at",
        ),
        (
            "another authority",
            &|r| {
                let tsa = mock_root("trusted_root_tsa")["timestampAuthorities"][0]["certChain"]["certificates"][1].clone();
                r["certificateAuthorities"][0]["certChain"]["certificates"] = json!([tsa]);
            },
            "certificate chain is invalid",
        ),
        (
            "no certificate log",
            &|r| r["ctlogs"] = json!([]),
            "no CT log keys in trusted root",
        ),
        (
            "another certificate log's key",
            &|r| {
                r["ctlogs"][0]["publicKey"]["rawBytes"] =
                    r["tlogs"][0]["publicKey"]["rawBytes"].clone()
            },
            "invalid signed certificate timestamp",
        ),
        (
            "another log's key",
            &|r| {
                r["tlogs"][0]["publicKey"]["rawBytes"] =
                    r["ctlogs"][0]["publicKey"]["rawBytes"].clone()
            },
            "invalid inclusion promise",
        ),
    ];
    for (what, change, reason) in cases {
        let mut root = mock_root("trusted_root");
        change(&mut root);
        let root = TrustRoot::from_json(root.to_string().as_bytes()).unwrap();
        for name in ["kl2", "kl3"] {
            let layout = Layout::open(name);
            let found = verdict(
                &layout.subject(),
                &layout.candidates(),
                &by_workflow(),
                &root,
            );
            refused(&format!("{name}: {what}"), found, reason);
        }
    }
}

//! Certificates that no authority of the fixtures issues: an authority and a certificate log of our own.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bpfman_tests::lanes;
use bytecode_image::digest::Digest;
use bytecode_image::verify::{Proof, Subject, TrustRoot};
use serde_json::{Value, json};

use crate::forge::{Log, Signer, hashed_rekord, hex, image};
use crate::layout::{
    CERTIFICATE, ISSUER, LOG_ENTRY, Simple, TIME_STAMP, WORKFLOW, by_workflow, mock_root,
    simple_candidates,
};
use crate::{refused, summary, verdict};

/// When the log took the entries, and how long certificates live around it: five minutes before, five after.
const NOW: i64 = 1_795_334_200;
const HALF_LIFE: i64 = 300;

/// Tags of DER (X.690), and object identifiers of RFC 5280, RFC 6962 and Fulcio.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const FULCIO_ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
const TIMESTAMP_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// The AlgorithmIdentifier of ECDSA with SHA-256, whole.
const ECDSA_SHA256: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => bytes.push(length),
        Ok(length) => bytes.extend([0x81, length]),
        Err(_) => {
            bytes.push(0x82);
            bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(content);
    bytes
}

fn time(seconds: i64) -> Vec<u8> {
    let at = jiff::Timestamp::from_second(seconds).unwrap();
    let text = at.strftime("%y%m%d%H%M%SZ").to_string();
    tlv(0x17, &[text.as_bytes()])
}

fn name(common: &str) -> Vec<u8> {
    let pair = tlv(
        SEQUENCE,
        &[&tlv(OID, &[COMMON_NAME]), &tlv(UTF8, &[common.as_bytes()])],
    );
    tlv(SEQUENCE, &[&tlv(SET, &[&pair])])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    tlv(
        SEQUENCE,
        &[&tlv(OID, &[id]), critical, &tlv(OCTETS, &[value])],
    )
}

fn usages(id: &[u8]) -> Vec<u8> {
    let value = tlv(SEQUENCE, &[&tlv(OID, &[id])]);
    extension(EXTENDED_KEY_USAGE, false, &value)
}

/// What a certificate says, but for its extensions.
struct Subject509<'a> {
    issuer: &'a str,
    subject: &'a str,
    life: (i64, i64),
    key: &'a Signer,
}

impl Subject509<'_> {
    fn to_be_signed(&self, extensions: &[Vec<u8>]) -> Vec<u8> {
        let all = tlv(SEQUENCE, &[&extensions.concat()]);
        tlv(
            SEQUENCE,
            &[
                &[0xa0, 0x03, 0x02, 0x01, 0x02],
                &[0x02, 0x01, 0x07],
                ECDSA_SHA256,
                &name(self.issuer),
                &tlv(SEQUENCE, &[&time(self.life.0), &time(self.life.1)]),
                &name(self.subject),
                self.key.spki(),
                &tlv(0xa3, &[&all]),
            ],
        )
    }

    fn signed(&self, extensions: &[Vec<u8>], issuer: &Signer) -> Vec<u8> {
        let content = self.to_be_signed(extensions);
        let signature = issuer.sign(&content);
        tlv(
            SEQUENCE,
            &[&content, ECDSA_SHA256, &tlv(0x03, &[&[0], &signature])],
        )
    }
}

fn authority(issuer: &str, subject: &str, life: (i64, i64), key: &Signer, by: &Signer) -> Vec<u8> {
    let subject = Subject509 {
        issuer,
        subject,
        life,
        key,
    };
    let extensions = [
        extension(KEY_USAGE, true, &[0x03, 0x02, 0x01, 0x06]),
        extension(
            BASIC_CONSTRAINTS,
            true,
            &tlv(SEQUENCE, &[&[0x01, 0x01, 0xff]]),
        ),
        usages(CODE_SIGNING),
    ];
    subject.signed(&extensions, by)
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(der)
    )
}

/// A signed certificate timestamp (RFC 6962, 3.2) of this log for a certificate to be.
fn timestamp(log: &Signer, issuer: &Signer, content: &[u8]) -> Vec<u8> {
    let at = u64::try_from(NOW).unwrap() * 1000;
    let mut signed = vec![0, 0];
    signed.extend(at.to_be_bytes());
    signed.extend([0, 1]);
    signed.extend(hex(&Digest::of(issuer.spki()).hex()));
    signed.extend(&u32::try_from(content.len()).unwrap().to_be_bytes()[1..]);
    signed.extend(content);
    signed.extend([0, 0]);
    let signature = log.sign(&signed);
    let mut bytes = vec![0];
    bytes.extend(hex(&Digest::of(log.spki()).hex()));
    bytes.extend(at.to_be_bytes());
    bytes.extend([0, 0, 4, 3]);
    bytes.extend(u16::try_from(signature.len()).unwrap().to_be_bytes());
    bytes.extend(signature);
    bytes
}

/// The extension with these timestamps.
fn timestamps(all: &[Vec<u8>]) -> Vec<u8> {
    let with_length = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[..], bytes].concat()
    };
    let list: Vec<u8> = all.iter().flat_map(|one| with_length(one)).collect();
    let value = tlv(OCTETS, &[&with_length(&list)]);
    extension(TIMESTAMP_LIST, false, &value)
}

/// A sigstore instance: authority, certificate log, transparency log.
struct Instance {
    authority: Signer,
    middle: Signer,
    certificates: Signer,
    log: Log,
    root: Value,
}

/// A certificate that is to be made, right unless a test says otherwise.
struct Wanted {
    usage: Option<&'static [u8]>,
    is_authority: bool,
    /// How many timestamps of the instance's log.
    timestamps: usize,
    /// One of a log that nobody knows before them.
    stranger: bool,
    /// What the timestamps are for: another certificate.
    of_another: bool,
    /// The life of an authority between; `None`: issued by the root.
    middle: Option<(i64, i64)>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            usage: Some(CODE_SIGNING),
            is_authority: false,
            timestamps: 1,
            stranger: false,
            of_another: false,
            middle: None,
        }
    }
}

impl Instance {
    fn new() -> Self {
        let [authority, middle, certificates] = [(); 3].map(|()| Signer::p256());
        let log = Log::new();
        let long = (NOW - 100_000_000, NOW + 100_000_000);
        let own = self::authority("root", "root", long, &authority, &authority);
        let mut root = log.listed(
            mock_root("trusted_root"),
            "https://log.test",
            "2020-01-01T00:00:00Z",
        );
        root["certificateAuthorities"][0]["certChain"]["certificates"] =
            json!([{"rawBytes": STANDARD.encode(own)}]);
        root["ctlogs"][0]["publicKey"]["rawBytes"] = json!(STANDARD.encode(certificates.spki()));
        let id = hex(&Digest::of(certificates.spki()).hex());
        root["ctlogs"][0]["logId"]["keyId"] = json!(STANDARD.encode(id));
        Self {
            authority,
            middle,
            certificates,
            log,
            root,
        }
    }

    fn trust_root(&self) -> TrustRoot {
        TrustRoot::from_json(self.root.to_string().as_bytes()).unwrap()
    }

    /// A signature of the image with such a certificate, in the log.
    fn signature(&self, wanted: &Wanted) -> Simple {
        let leaf = Signer::p256();
        let (issuer, by) = match wanted.middle {
            Some(_) => ("middle", &self.middle),
            None => ("root", &self.authority),
        };
        let subject = Subject509 {
            issuer,
            subject: "",
            life: (NOW - HALF_LIFE, NOW + HALF_LIFE),
            key: &leaf,
        };
        let alternative = tlv(SEQUENCE, &[&tlv(0x86, &[WORKFLOW.as_bytes()])]);
        let mut extensions = vec![
            extension(KEY_USAGE, true, &[0x03, 0x02, 0x07, 0x80]),
            extension(ALTERNATIVE_NAME, true, &alternative),
            extension(FULCIO_ISSUER, false, ISSUER.as_bytes()),
        ];
        extensions.extend(wanted.usage.map(usages));
        if wanted.is_authority {
            let value = tlv(SEQUENCE, &[&[0x01, 0x01, 0xff]]);
            extensions.push(extension(BASIC_CONSTRAINTS, true, &value));
        }
        let mut content = subject.to_be_signed(&extensions);
        if wanted.of_another {
            content = subject.to_be_signed(&extensions[1..]);
        }
        let mut all = Vec::new();
        if wanted.stranger {
            all.push(timestamp(&Signer::p256(), by, &content));
        }
        for _ in 0..wanted.timestamps {
            all.push(timestamp(&self.certificates, by, &content));
        }
        if !all.is_empty() {
            extensions.push(timestamps(&all));
        }
        let certificate = pem(&subject.signed(&extensions, by));
        let payload = Simple::payload_for(image());
        let mut simple = Simple::new(&payload, &leaf.sign(&payload));
        simple.set(CERTIFICATE, &certificate);
        if let Some(life) = wanted.middle {
            let middle = authority("root", "middle", life, &self.middle, &self.authority);
            simple.set("dev.sigstore.cosign/chain", &pem(&middle));
        }
        let body = hashed_rekord(&payload, &simple.signature(), &certificate);
        simple.set(LOG_ENTRY, &self.log.annotation(&body, NOW, 3));
        simple
    }

    fn check(&self, simple: Simple) -> Result<Proof, String> {
        verdict(
            &Subject::of(image()),
            &simple_candidates(&[simple]),
            &by_workflow(),
            &self.trust_root(),
        )
    }
}

#[test]
fn certificates_of_our_own_authority() {
    let instance = Instance::new();
    let long = Some((NOW - 50_000_000, NOW + 50_000_000));
    let found = summary(
        &instance
            .check(instance.signature(&Wanted::default()))
            .unwrap(),
    );
    assert_eq!(
        found,
        "workflow cosign2 log:2026-11-22T07:56:40Z #3 https://log.test"
    );
    let through = Wanted {
        middle: long,
        ..Wanted::default()
    };
    instance.check(instance.signature(&through)).unwrap();
    let chain = |why| {
        format!(
            "its certificate is not trusted: certificate chain is invalid: certificate chain validation failed: {why}"
        )
    };
    let sct = |why| {
        format!("its certificate is not trusted: invalid signed certificate timestamp: {why}")
    };
    let cases = [
        (
            "no usage",
            Wanted {
                usage: None,
                ..Wanted::default()
            },
            chain("RequiredEkuNotFound"),
        ),
        (
            "another usage",
            Wanted {
                usage: Some(SERVER_AUTH),
                ..Wanted::default()
            },
            chain("RequiredEkuNotFound"),
        ),
        (
            "an authority",
            Wanted {
                is_authority: true,
                ..Wanted::default()
            },
            chain("CaUsedAsEndEntity"),
        ),
        (
            "an authority between that had ended",
            Wanted {
                middle: Some((NOW - 50_000_000, NOW - 1000)),
                ..Wanted::default()
            },
            chain("CertExpired"),
        ),
        (
            "an authority between that had not begun",
            Wanted {
                middle: Some((NOW + 1000, NOW + 50_000_000)),
                ..Wanted::default()
            },
            chain("CertNotValidYet"),
        ),
        (
            "no timestamp",
            Wanted {
                timestamps: 0,
                ..Wanted::default()
            },
            sct(""),
        ),
        (
            "two timestamps",
            Wanted {
                timestamps: 2,
                ..Wanted::default()
            },
            sct(""),
        ),
        (
            "a stranger's timestamp",
            Wanted {
                timestamps: 0,
                stranger: true,
                ..Wanted::default()
            },
            sct(""),
        ),
        (
            "a timestamp of another certificate",
            Wanted {
                of_another: true,
                ..Wanted::default()
            },
            sct(""),
        ),
    ];
    for (what, wanted, reason) in cases {
        let found = instance.check(instance.signature(&wanted));
        refused(what, found, &reason);
    }
    // An authority between that did not come along, and one that another root signed.
    let mut alone = instance.signature(&through);
    alone.annotations.remove("dev.sigstore.cosign/chain");
    refused("chain", instance.check(alone), &chain("UnknownIssuer"));
    let other = Instance::new();
    refused(
        "another root",
        instance.check(other.signature(&Wanted::default())),
        "unknown transparency log",
    );
}

#[test]
fn a_time_stamp_outside_of_the_certificates_life() {
    let Some(openssl) = lanes::tool("openssl") else {
        return;
    };
    let mut instance = Instance::new();
    let mut simple = instance.signature(&Wanted::default());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("signature"), simple.signature()).unwrap();
    let (chain, token) = stamp(&openssl, folder.path());
    let authority = json!({
        "subject": {"organization": "test", "commonName": "tsa"},
        "uri": "https://tsa.test",
        "certChain": {"certificates": chain.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect::<Vec<_>>()},
        "validFor": {"start": "2020-01-01T00:00:00Z"},
    });
    instance.root["timestampAuthorities"] = json!([authority]);
    assert!(instance.check(simple.clone()).is_ok());
    // By a trusted authority, of this signature, today: long after the log's time, which is in the certificate's life.
    let stamp = json!({"SignedRFC3161Timestamp": STANDARD.encode(token)});
    simple.set(TIME_STAMP, &stamp.to_string());
    refused(
        "stamp",
        instance.check(simple),
        "its certificate is not trusted: certificate chain is invalid: certificate chain validation failed: CertExpired",
    );
}

/// A time stamp of the file `signature` by an authority that is made for it: its certificates, and the response.
fn stamp(openssl: &Path, folder: &Path) -> ([Vec<u8>; 2], Vec<u8>) {
    let run = |arguments: &str| {
        let output = Command::new(openssl)
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    };
    std::fs::write(
        folder.join("ts.cnf"),
        "oid_section = oids\n[oids]\npolicy = 1.2.3.4.1\n[tsa]\ndefault_tsa = here\n[here]\nserial = serial\n\
         crypto_device = builtin\nsigner_cert = tsa.pem\nsigner_key = tsa.key\nsigner_digest = sha256\n\
         default_policy = policy\ndigests = sha256\nordering = no\ntsa_name = no\ness_cert_id_alg = sha256\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("leaf.cnf"),
        "keyUsage = critical,digitalSignature\nextendedKeyUsage = critical,timeStamping\n",
    )
    .unwrap();
    std::fs::write(folder.join("serial"), "01\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=ca -addext keyUsage=critical,keyCertSign"
    ));
    run(&format!(
        "req -new {key} -keyout tsa.key -out tsa.csr -subj /CN=tsa"
    ));
    run(
        "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.cnf -out tsa.pem",
    );
    for name in ["ca", "tsa"] {
        run(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
    }
    run("ts -query -data signature -sha256 -cert -out query");
    run("ts -reply -config ts.cnf -queryfile query -out response");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    ([read("tsa.der"), read("ca.der")], read("response"))
}

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor(size: u64, media_type: &str, platform: &str) -> String {
    let platform = match platform.split('/').collect::<Vec<_>>().as_slice() {
        [os, architecture] => {
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
        }
        [os, architecture, variant] => {
            format!(
                r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#
            )
        }
        _ => String::new(),
    };
    format!(r#"{{"mediaType":"{media_type}","digest":"{D}","size":{size}{platform}}}"#)
}

fn image_with(media_type: &str, layers: &[u64], rest: &str) -> String {
    let layers: Vec<_> = layers
        .iter()
        .map(|size| descriptor(*size, "x/layer", ""))
        .collect();
    let config = descriptor(7, "x/config", "");
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,{media_type}"config":{config},"layers":[{layers}]{rest}}}"#)
}

fn index_of(entries: &[(&str, &str)]) -> ImageIndex {
    let entries: Vec<_> = entries
        .iter()
        .map(|(kind, platform)| descriptor(9, kind, platform))
        .collect();
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entries.join(",")
    );
    match parse(&VerifiedBytes::hash(text.as_bytes().to_vec()), None).unwrap() {
        (Document::Index(index), media_type) => {
            assert_eq!(media_type, OCI_IMAGE_INDEX_MEDIA_TYPE);
            index
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn accepted() {
    let docker = format!(r#""mediaType":"{IMAGE_MANIFEST_MEDIA_TYPE}","#);
    let cases = [
        ("", None, OCI_IMAGE_MEDIA_TYPE),
        (
            "",
            Some(IMAGE_MANIFEST_MEDIA_TYPE),
            IMAGE_MANIFEST_MEDIA_TYPE,
        ),
        (docker.as_str(), None, IMAGE_MANIFEST_MEDIA_TYPE),
        (
            docker.as_str(),
            Some(IMAGE_MANIFEST_MEDIA_TYPE),
            IMAGE_MANIFEST_MEDIA_TYPE,
        ),
        (
            "",
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            OCI_IMAGE_MEDIA_TYPE,
        ),
    ];
    for (inside, outside, expected) in cases {
        let text = image_with(inside, &[5], r#","annotations":{"a":"b"},"unknown":1"#);
        let (document, media_type) =
            parse(&VerifiedBytes::hash(text.as_bytes().to_vec()), outside).unwrap();
        assert_eq!(media_type, expected);
        let Document::Image(image) = document else {
            panic!("an image")
        };
        assert_eq!((image.config.size, image.layer.size), (7, 5));
    }
}

#[test]
fn refused() {
    let oci = format!(r#""mediaType":"{OCI_IMAGE_MEDIA_TYPE}","#);
    let cases: Vec<(String, Option<&str>, &str)> = vec![
        (String::new(), None, "not a manifest"),
        ("[]".into(), None, "not a manifest"),
        ("{}".into(), None, "not a manifest"),
        (r#"{"schemaVersion":2}"#.into(), None, "neither"),
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#.into(),
            None,
            "schema 1",
        ),
        (r#"{"schemaVersion":3}"#.into(), None, "schemaVersion is 3"),
        (r#"{"schemaVersion":2,"layers":[]}"#.into(), None, "neither"),
        (image_with("", &[], ""), None, "0 layers"),
        (image_with("", &[1, 2], ""), None, "2 layers"),
        (image_with("", &[1], r#","manifests":[]"#), None, "both"),
        (
            image_with("", &[MAX_LAYER_BYTES + 1], ""),
            None,
            "its layer has",
        ),
        (
            image_with(&oci, &[1], ""),
            Some(IMAGE_MANIFEST_MEDIA_TYPE),
            "was named",
        ),
        (
            image_with(&oci, &[1], ""),
            Some("application/json"),
            "was named",
        ),
        (
            image_with("", &[1], ""),
            Some(OCI_IMAGE_INDEX_MEDIA_TYPE),
            "was named",
        ),
        (
            image_with("", &[1], ""),
            Some("text/html"),
            "media type is `text/html`",
        ),
        (
            image_with(r#""mediaType":"x/y","#, &[1], ""),
            None,
            "media type is `x/y`",
        ),
        (
            image_with("", &[1], "").replace("sha256", "md5"),
            None,
            "not a manifest",
        ),
        (
            image_with("", &[1], "").replace("\"size\":1", "\"size\":-1"),
            None,
            "not a manifest",
        ),
    ];
    for (text, outside, message) in cases {
        let error = parse(&VerifiedBytes::hash(text.as_bytes().to_vec()), outside)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn chosen() {
    const M: &str = OCI_IMAGE_MEDIA_TYPE;
    let wanted = |text: &str| text.parse::<Platform>().unwrap();
    let index = index_of(&[
        (M, "linux/arm/v6"),
        (M, "linux/arm/v7"),
        (M, "linux/amd64"),
        (M, "unknown/unknown"),
        (OCI_IMAGE_INDEX_MEDIA_TYPE, "linux/s390x"),
        (M, "linux/\\u001b[2J"),
    ]);
    let at = |platform: &str| {
        index
            .choose(&wanted(platform))
            .map(|chosen| chosen.platform().unwrap().to_string())
    };
    assert_eq!(at("linux/amd64").unwrap(), "linux/amd64");
    assert_eq!(at("linux/arm/v7").unwrap(), "linux/arm/v7");
    assert_eq!(at("linux/arm/v8").unwrap(), "linux/arm/v7");
    // As containers tools choose: without a variant asked for, v8 to v5 (`Platform::distance`).
    assert_eq!(at("linux/arm").unwrap(), "linux/arm/v7");
    assert!(matches!(
        at("linux/s390x").unwrap_err(),
        ManifestError::Nested
    ));
    assert_eq!(
        at("linux/riscv64").unwrap_err().to_string(),
        "it has no image for linux/riscv64; it has linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x"
    );
    assert!(index_of(&[(M, "")]).choose(&wanted("linux/arm64")).is_ok());
    assert!(
        index_of(&[(M, ""), (M, "")])
            .choose(&wanted("linux/arm64"))
            .is_err()
    );
    assert!(index_of(&[]).choose(&wanted("linux/arm64")).is_err());
}

#[test]
fn configurations() {
    let full = r#"{"architecture":"arm","os":"linux","variant":"v7","rootfs":{"diff_ids":["sha256:x"]},"config":{"Labels":{"a":"b"}}}"#;
    let config = ImageConfig::parse(&VerifiedBytes::hash(full)).unwrap();
    assert_eq!(config.platform, Some("linux/arm/v7".parse().unwrap()));
    assert_eq!(
        config.labels,
        BTreeMap::from([("a".to_owned(), "b".to_owned())])
    );
    assert_eq!(config.diff_ids, Some(vec!["sha256:x".to_owned()]));
    for text in [
        r#"{}"#,
        r#"{"config":null}"#,
        r#"{"config":{"Labels":null}}"#,
        r#"{"os":"linux"}"#,
        r#"{"rootfs":null}"#,
        r#"{"rootfs":{"type":"layers"}}"#,
        r#"{"rootfs":{"diff_ids":null}}"#,
    ] {
        let config = ImageConfig::parse(&VerifiedBytes::hash(text.as_bytes().to_vec())).unwrap();
        assert_eq!(
            config,
            ImageConfig {
                platform: None,
                labels: BTreeMap::new(),
                diff_ids: None
            },
            "{text}"
        );
    }
    for text in [
        "",
        "[1]",
        r#"{"config":{"Labels":{"a":1}}}"#,
        r#"{"os":7}"#,
        r#"{"rootfs":{"diff_ids":"x"}}"#,
    ] {
        assert!(
            ImageConfig::parse(&VerifiedBytes::hash(text.as_bytes().to_vec())).is_err(),
            "{text}"
        );
    }
}

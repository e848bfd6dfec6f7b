//! An OCI image layout in one tar, which docker's importers read as well.
//!
//! Comes in: a layer's tar, the platform, the name, labels. Goes out: `oci-layout`, `index.json`, the blobs, and docker's
//! `manifest.json`; read back, with every digest checked.
//! Always holds: the same input gives the same bytes.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::tar::{self, Entry, Kind};
use crate::Outcome;

/// What the image says of itself.
pub(super) struct Image {
    /// `amd64`, `arm64`.
    pub(super) arch: &'static str,
    /// As in `docker.io/library/x:1`.
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) time: u64,
    /// `time`, as RFC 3339 has it.
    pub(super) created: String,
    /// `org.opencontainers.image.…` without the prefix.
    pub(super) labels: Vec<(&'static str, String)>,
    /// How hard the layer is compressed.
    pub(super) packing: Compression,
}

/// The user: a number, so that `runAsNonRoot` can be checked; that of Elastic's images.
pub(super) const USER: &str = "1000";
pub(super) const WORKDIR: &str = "/usr/share/filebeat";
pub(super) const ENV: &[&str] =
    &["PATH=/usr/share/filebeat:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
pub(super) const ENTRYPOINT: &[&str] = &["/usr/local/bin/docker-entrypoint"];
pub(super) const CMD: &[&str] = &["-environment", "container"];
const PREFIX: &str = "org.opencontainers.image.";

/// The archive of the image with this one layer.
pub(super) fn archive(image: &Image, layer: &[u8]) -> Outcome<Vec<u8>> {
    let mut zip = GzEncoder::new(Vec::new(), image.packing);
    let packed = zip.write_all(layer).and_then(|()| zip.finish()).map_err(|e| format!("compression: {e}"))?;
    let labels: Value = image.labels.iter().map(|(k, v)| (format!("{PREFIX}{k}"), Value::from(v.as_str()))).collect();
    let config = json!({
        "architecture": image.arch, "os": "linux", "created": image.created,
        "config": {"User": USER, "Env": ENV, "Entrypoint": ENTRYPOINT, "Cmd": CMD, "WorkingDir": WORKDIR, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]},
        "history": [{"created": image.created, "created_by": "cargo xtask image"}],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar+gzip", &packed)],
        "annotations": labels,
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["platform"] = json!({"architecture": image.arch, "os": "linux"});
    entry["annotations"] = json!({format!("{PREFIX}ref.name"): tag, "io.containerd.image.name": image.name});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    let docker = json!([{"Config": blob(&config), "RepoTags": [image.name], "Layers": [blob(&packed)]}]);
    let folder = |path: &str| Entry { path: path.into(), mode: 0o755, kind: Kind::Folder };
    let file = |path: String, bytes: Vec<u8>| Entry { path, mode: 0o644, kind: Kind::File(bytes) };
    let mut blobs = [config, manifest, packed].map(|bytes| file(blob(&bytes), bytes));
    blobs.sort_by(|a, b| a.path.cmp(&b.path));
    let mut entries = vec![folder("blobs"), folder("blobs/sha256")];
    entries.extend(blobs);
    entries.push(file("index.json".into(), index.to_string().into_bytes()));
    entries.push(file("manifest.json".into(), docker.to_string().into_bytes()));
    entries.push(file("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    tar::archive(&entries, image.time)
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let (kind, digest) = (format!("application/vnd.oci.image.{kind}"), format!("sha256:{}", sha256(bytes)));
    json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// An image that was read back.
pub(super) struct ReadBack {
    pub(super) config: Value,
    /// The layer's entries.
    pub(super) root: Vec<Entry>,
}

/// Reads an archive by the ways that importers take, OCI's and docker's, and checks that both lead to the same.
pub(super) fn read(archive: &[u8]) -> Outcome<ReadBack> {
    let files = tar::entries(archive)?;
    let file = |path: &str| {
        files.iter().find_map(|e| match &e.kind {
            Kind::File(bytes) if e.path == path => Some(bytes.as_slice()),
            _ => None,
        })
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|d| d.strip_prefix("sha256:")).unwrap_or_default();
        let bytes = file(&format!("blobs/sha256/{digest}")).ok_or_else(|| format!("no blob {digest}"))?;
        if sha256(bytes) != digest || descriptor["size"].as_u64() != Some(bytes.len() as u64) {
            return Err(format!("blob {digest} isn't what its name says"));
        }
        Ok(bytes)
    };
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|e| e.to_string());
    let json = |path: &str| parse(file(path).ok_or_else(|| format!("no {path}"))?);
    json("oci-layout")?;
    let manifest = parse(blob(&json("index.json")?["manifests"][0])?)?;
    let config_bytes = blob(&manifest["config"])?;
    let packed = blob(&manifest["layers"][0])?;
    let docker = &json("manifest.json")?[0];
    let of_docker = |path: &Value| file(path.as_str().unwrap_or_default());
    if of_docker(&docker["Config"]) != Some(config_bytes) || of_docker(&docker["Layers"][0]) != Some(packed) {
        return Err("docker's manifest.json leads elsewhere than index.json".into());
    }
    let mut layer = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut layer).map_err(|e| format!("the layer: {e}"))?;
    let config = parse(config_bytes)?;
    if config["rootfs"]["diff_ids"][0].as_str() != Some(&format!("sha256:{}", sha256(&layer))) {
        return Err("the layer isn't the one that the configuration names".into());
    }
    Ok(ReadBack { config, root: tar::entries(&layer)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> (Image, Vec<u8>) {
        let labels = vec![("title", "x".to_owned())];
        let (created, packing) = ("1970".to_owned(), Compression::best());
        let image = Image { arch: "arm64", name: "localhost/x:7".into(), time: 9, created, labels, packing };
        let entry = Entry { path: "a".into(), mode: 0o644, kind: Kind::File(vec![3; 2000]) };
        (image, tar::archive(&[entry], 9).unwrap())
    }

    #[test]
    fn what_is_written_is_read_back_and_always_the_same() {
        let (image, layer) = some();
        let bytes = archive(&image, &layer).unwrap();
        assert_eq!(bytes, archive(&image, &layer).unwrap());
        let back = read(&bytes).unwrap();
        assert_eq!(back.root, tar::entries(&layer).unwrap());
        assert_eq!(back.config["architecture"], "arm64");
        assert_eq!(back.config["config"]["Labels"]["org.opencontainers.image.title"], "x");
    }

    #[test]
    fn the_dockerfile_says_the_same() {
        let dockerfile = include_str!("../../../deploy/image/Dockerfile").replace("\\\n", "");
        let last = dockerfile.rsplit_once("FROM scratch").unwrap().1;
        let says = |word: &str| {
            let line = last.lines().find_map(|l| l.strip_prefix(word)?.strip_prefix(' ')).unwrap();
            line.to_owned()
        };
        let list = |word: &str| serde_json::from_str::<Vec<String>>(&says(word)).unwrap();
        assert_eq!(says("USER"), USER);
        assert_eq!(says("WORKDIR"), WORKDIR);
        assert_eq!([says("ENV").as_str()], ENV);
        assert_eq!(list("ENTRYPOINT"), ENTRYPOINT);
        assert_eq!(list("CMD"), CMD);
        for (name, value) in super::super::labels().unwrap() {
            if !["revision", "created"].contains(&name) {
                assert!(says("LABEL").contains(&format!("{PREFIX}{name}=\"{value}\"")), "{name}");
            }
        }
    }

    #[test]
    fn a_damaged_blob_is_noticed() {
        let (image, layer) = some();
        let mut bytes = archive(&image, &layer).unwrap();
        let at = bytes.windows(9).position(|w| w == b"\"history\"").unwrap();
        bytes[at + 1] ^= 1;
        assert!(read(&bytes).is_err_and(|e| e.contains("isn't what its name says")));
    }
}

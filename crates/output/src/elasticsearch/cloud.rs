//! `cloud.id` and `cloud.auth`: where a deployment in Elastic's cloud is reached.
//!
//! Comes in: the configuration's root. Goes out: the host, and user and password, which win over those of the output.
//! Facts: elastic/beats `libbeat/cloudid/cloudid.go`. Always holds: neither value is shown in an error. Tested below.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_config::{Error, Section};

/// Where nothing else is said.
const PORT: &str = "443";

/// What `cloud.id` and `cloud.auth` say.
#[derive(PartialEq, Eq)]
pub(crate) struct Cloud {
    /// `https://name:port`.
    pub(crate) url: String,
    /// User and password.
    pub(crate) auth: Option<(String, String)>,
}

/// Reads both; `None`: there is no `cloud.id`.
pub(crate) fn from_root(root: &Section<'_>) -> Result<Option<Cloud>, Error> {
    let id = root.str("cloud.id")?.filter(|id| !id.is_empty());
    let auth = root.str("cloud.auth")?.filter(|auth| !auth.is_empty());
    let Some(id) = id else {
        let alone = |_| root.error("cloud.auth", "there is no cloud.id beside it", "set both, or remove cloud.auth");
        return auth.map_or(Ok(None), |auth| Err(alone(auth)));
    };
    let url = url(&id).map_err(|why| root.error("cloud.id", why, "copy it anew from the deployment's page"))?;
    let auth = auth.map(|auth| match auth.split_once(':') {
        Some((user, password)) => Ok((user.to_owned(), password.to_owned())),
        None => Err(root.error("cloud.auth", "there is no `:` between user and password", "write user:password")),
    });
    Ok(Some(Cloud { url, auth: auth.transpose()? }))
}

/// `name:BASE64`, with `host$elasticsearch$kibana` in it, each perhaps with a port.
fn url(id: &str) -> Result<String, &'static str> {
    let encoded = id.rsplit(':').next().unwrap_or(id);
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| "what follows the last `:` isn't base64")?;
    let decoded = String::from_utf8(decoded).map_err(|_| "it doesn't hold a text")?;
    let words: Vec<&str> = decoded.split('$').collect();
    let [host, elasticsearch, _, ..] = words.as_slice() else { return Err("it doesn't hold three names") };
    let (host, port) = host.rsplit_once(':').unwrap_or((host, PORT));
    let (name, port) = elasticsearch.rsplit_once(':').unwrap_or((elasticsearch, port));
    Ok(format!("https://{name}.{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use pillion_config::Config;

    use super::*;

    fn read(id: &str, auth: &str) -> Result<Option<Cloud>, String> {
        let config = Config::from_yaml(&format!("cloud.id: '{id}'\ncloud.auth: '{auth}'")).unwrap();
        from_root(&config.root()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_decoded() {
        for (text, url) in [
            ("us-east-1.aws.found.io$abc$def", "https://abc.us-east-1.aws.found.io:443"),
            ("found.io:9243$abc$def$more", "https://abc.found.io:9243"),
            ("found.io:9243$abc:9244$def:1", "https://abc.found.io:9244"),
        ] {
            for id in [format!("my:name:{}", STANDARD.encode(text)), STANDARD.encode(text)] {
                let cloud = read(&id, "elastic:a:b").ok().flatten().unwrap();
                assert_eq!((cloud.url.as_str(), cloud.auth), (url, Some(("elastic".into(), "a:b".into()))), "{id}");
            }
        }
        assert!(read("", "").unwrap().is_none());
    }

    #[test]
    fn what_is_refused_shows_no_value() {
        let good = STANDARD.encode("h$e$k");
        for (id, auth, why) in [
            ("name:%%", "", "base64"),
            ("bmFtZQ==", "", "three names"),
            (good.as_str(), "geheim", "no `:`"),
            ("", "u:geheim", "no cloud.id"),
        ] {
            let said = read(id, auth).map(|_| ()).unwrap_err();
            assert!(said.contains(why) && !said.contains("geheim"), "{said}");
        }
    }
}

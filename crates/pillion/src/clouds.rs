//! Asks a cloud's metadata service, for `add_cloud_metadata`.
//!
//! Comes in: the processor. Goes out: what the first provider that knows this machine answered, told to the processor.
//!
//! Always holds: all are asked at once, as a task beside all else; each answer has a limit in time and bytes; that nobody
//! answers is no error, for most machines aren't in a cloud. The answer's values go nowhere but into events.
//! Tested below against a small server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pillion_process::{Cloud, Provider, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The largest answer.
const LIMIT: u64 = 1 << 20;

/// Begins to ask, unless somebody did before for this processor.
pub(crate) fn ask(cloud: &Cloud) {
    let Ok(host) = cloud.host.parse::<SocketAddr>() else {
        tracing::warn!(host = cloud.host, "add_cloud_metadata adds nothing: `host` is no address with a port");
        return;
    };
    let Some(tell) = cloud.tell() else { return };
    let (timeout, providers) = (cloud.timeout, cloud.providers.clone());
    tokio::spawn(async move {
        match first(host, &providers, timeout).await {
            Some(fields) => tell(fields),
            None => tracing::debug!("no cloud's metadata service knows this machine: no event gets `cloud`"),
        }
    });
}

async fn first(
    host: SocketAddr,
    providers: &[Provider],
    timeout: Duration,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut asked = JoinSet::new();
    for provider in providers.iter().copied() {
        asked.spawn(async move {
            let answer = tokio::time::timeout(timeout, answer(host, provider)).await.ok()?.ok()?;
            provider.read(&answer)
        });
    }
    while let Some(done) = asked.join_next().await {
        if let Ok(Some(fields)) = done {
            return Some(fields);
        }
    }
    None
}

async fn answer(host: SocketAddr, provider: Provider) -> io::Result<Vec<u8>> {
    let token = match provider.token() {
        None => None,
        Some((request, header)) => {
            let token = send(host, &request, None).await?;
            Some((header, String::from_utf8_lossy(&token).trim().replace(['\r', '\n'], "")))
        }
    };
    send(host, &provider.request(), token.as_ref().map(|(header, token)| (*header, token.as_str()))).await
}

/// One request, and the body of a 200. HTTP/1.0: nothing is chunked, and the answer's end is the connection's.
async fn send(host: SocketAddr, request: &Request, more: Option<(&str, &str)>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(host).await?;
    let Request { method, path, header: (name, value) } = request;
    let more = more.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    let length = if *method == "PUT" { "Content-Length: 0\r\n" } else { "" };
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n{name}: {value}\r\n{length}{more}\r\n",
        host.ip()
    );
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer).await?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not the answer to what was asked");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(wrong)?;
    let status = answer.split(|byte| *byte == b' ').nth(1);
    if status != Some(b"200".as_slice()) {
        return Err(wrong());
    }
    Ok(answer.split_off(head + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers like EC2: a document for whoever has a token, 404 for all else.
    async fn serve(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|n| n > 0) {}
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let body = match asked.split(' ').nth(1) {
                Some("/latest/api/token") if asked.starts_with("PUT") => Some("t0ken\n"),
                Some("/latest/dynamic/instance-identity/document")
                    if asked.contains("X-aws-ec2-metadata-token: t0ken\r\n") =>
                {
                    Some("{\"instanceId\": \"i-1\", \"region\": \"eu-central-1\"}")
                }
                _ => None,
            };
            let text =
                body.map_or("HTTP/1.0 404 Not Found\r\n\r\n".to_owned(), |b| format!("HTTP/1.1 200 OK\r\n\r\n{b}"));
            let _ = stream.write_all(text.as_bytes()).await;
        }
    }

    #[tokio::test]
    async fn the_one_that_knows_the_machine_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener));
        let found = first(host, &Provider::ALL, Duration::from_secs(10)).await.unwrap();
        assert_eq!(found["cloud"]["instance"]["id"], "i-1");
        assert_eq!(first(host, &[Provider::Gcp], Duration::from_secs(10)).await, None);
        server.abort();
        // Nobody is there.
        assert_eq!(first(host, &Provider::ALL, Duration::from_millis(200)).await, None);
    }
}

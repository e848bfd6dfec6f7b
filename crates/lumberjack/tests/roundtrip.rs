//! Client and server of this crate against each other, over pipes in memory and a paused clock.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pillion_lumberjack::{
    Client, ClientError, ClientOptions, Decoder, Level, Limits, Progress, ProtocolError, Received, ServerError,
    ServerOptions, WindowWriter, serve,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

fn window(level: u8, events: &[&[u8]]) -> WindowWriter {
    let mut w = WindowWriter::new(Level::new(level));
    events.iter().for_each(|e| w.push(e));
    w
}

fn options(pipelining: usize) -> ClientOptions {
    ClientOptions { pipelining, ..ClientOptions::default() }
}

type Server = JoinHandle<Result<(), ServerError>>;

fn pair(pipelining: usize) -> (Client<DuplexStream>, mpsc::Receiver<Received>, Server) {
    let (near, far) = duplex(64);
    let (tx, rx) = mpsc::channel(1);
    let server = tokio::spawn(serve(far, ServerOptions::default(), tx));
    (Client::new(near, options(pipelining)), rx, server)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        windows in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..60), 1..4),
        level in 0u8..=9,
        cut in 1usize..5000,
    ) {
        let mut stream = Vec::new();
        let mut writer = WindowWriter::new(Level::new(level));
        for events in &windows {
            events.iter().for_each(|e| writer.push(e));
            stream.extend_from_slice(writer.finish());
        }
        let mut decoder = Decoder::new(Limits::default());
        let mut read = Vec::new();
        for piece in stream.chunks(cut) {
            decoder.input().extend_from_slice(piece);
            while let Some(w) = decoder.next_window().unwrap() {
                read.push(w.events().map(<[u8]>::to_vec).collect::<Vec<_>>());
                decoder.recycle(w);
            }
        }
        prop_assert!(decoder.is_between_windows());
        prop_assert_eq!(read, windows);
    }

    #[test]
    fn noise_is_an_error_or_waits(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        pillion_lumberjack::fuzz_windows(&data);
        pillion_lumberjack::fuzz_acks(&data);
    }
}

#[tokio::test(start_paused = true)]
async fn windows_are_pipelined_and_acknowledged_in_order() {
    let (mut client, mut rx, server) = pair(2);
    let a = client.send(&mut window(0, &[b"1", b"2"])).await.unwrap();
    let b = client.send(&mut window(3, &[b"3"])).await.unwrap();
    assert!(!client.has_room());
    let first = rx.recv().await.unwrap();
    let second = rx.recv().await.unwrap();
    second.ack.done();
    first.ack.partial(&first.window, 1);
    assert_eq!(client.next_ack().await.unwrap(), Progress { window: a, count: 2, acked: 1 });
    first.ack.done();
    assert_eq!(client.next_ack().await.unwrap(), Progress { window: a, count: 2, acked: 2 });
    assert_eq!(client.next_ack().await.unwrap(), Progress { window: b, count: 1, acked: 1 });
    assert_eq!((client.in_flight(), client.pending().len()), (0, 0));
    client.close().await.unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_pipeline_waits_for_room() {
    let (mut client, mut rx, _server) = pair(1);
    let acks = tokio::spawn(async move {
        while let Some(r) = rx.recv().await {
            r.ack.done();
        }
    });
    for i in 0..20 {
        assert_eq!(client.send(&mut window(0, &[&[b'x'; 1000]])).await.unwrap(), i);
    }
    for i in 0..20 {
        assert_eq!(client.next_ack().await.unwrap().window, i, "sends took acknowledgements, and kept them");
    }
    client.close().await.unwrap();
    acks.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_that_lives_is_waited_for() {
    let (mut client, mut rx, _server) = pair(2);
    client.send(&mut window(3, &[b"{}"])).await.unwrap();
    let received = rx.recv().await.unwrap();
    let acked = tokio::time::timeout(Duration::from_secs(3600), client.next_ack()).await;
    assert!(acked.is_err(), "an hour of keep-alives is no error");
    received.ack.done();
    assert!(client.next_ack().await.unwrap().is_done());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let (near, _far) = duplex(1 << 16);
    let mut client = Client::new(near, options(2));
    client.send(&mut window(0, &[b"a", b"b"])).await.unwrap();
    assert!(matches!(client.next_ack().await, Err(ClientError::Timeout(_))));
    assert!(matches!(client.next_ack().await, Err(ClientError::Failed)));
    assert_eq!(client.pending().collect::<Vec<_>>(), [Progress { window: 0, count: 2, acked: 0 }]);
    let (near, _far) = duplex(10);
    let mut client = Client::new(near, options(2));
    assert!(matches!(client.send(&mut window(0, &[&[0; 100]])).await, Err(ClientError::Timeout(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_byte_now_and_then_is_given_up_and_a_slow_line_is_not() {
    for (each, taken) in [(1, false), (20 * 1024, true)] {
        let (near, mut far) = duplex(16);
        let mut client = Client::new(near, options(2));
        let reader = tokio::spawn(async move {
            let mut some = vec![0; each];
            while far.read_exact(&mut some).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(8)).await;
            }
        });
        let large = vec![0; 200 * 1024];
        let began = tokio::time::Instant::now();
        let sent = client.send(&mut window(0, &[&large])).await;
        let took = began.elapsed().as_secs();
        if taken {
            assert!(sent.is_ok() && took > 60, "{sent:?} after {took} s");
            let answer = client.next_ack().await;
            assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");
            assert!(began.elapsed().as_secs() >= took + 30, "the answer has all its time");
        } else {
            assert!(matches!(sent, Err(ClientError::Timeout(_))) && took <= 30, "{sent:?} after {took} s");
        }
        drop(client);
        reader.await.unwrap();
    }
}

/// What TLS does that is to say good-bye to a server which takes nothing.
struct Stuck(DuplexStream);

impl tokio::io::AsyncRead for Stuck {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Stuck {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_is_not_waited_for_without_end() {
    let (near, _far) = duplex(16);
    let ended = tokio::time::timeout(Duration::from_secs(60), Client::new(Stuck(near), options(1)).close()).await;
    assert_eq!(ended.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_before_it_fails_counts() {
    for (answer, reports, error) in [
        (&b"2A\0\0\0\x022A\0\0\0\x04"[..], &[2][..], "protocol error: sequence 4 is acknowledged, but only 3"),
        (b"2A\0\0\0\x01HTTP", &[1], "protocol error: byte 0x48"),
        (b"2A\0\0\0\x002A\0\0\0\x02", &[2], "the server closed"),
        (b"2A\0\0\0\x032A\0\0\0\x01", &[3], "protocol error: sequence 1 is acknowledged, but only 0"),
        (b"2A\0\0", &[], "the server closed"),
    ] {
        let (near, mut far) = duplex(1 << 16);
        let mut client = Client::new(near, options(2));
        client.send(&mut window(0, &[b"a", b"b", b"c"])).await.unwrap();
        far.write_all(answer).await.unwrap();
        drop(far);
        for acked in reports {
            assert_eq!(client.next_ack().await.unwrap().acked, *acked);
        }
        let e = client.next_ack().await.unwrap_err();
        assert!(e.to_string().starts_with(error), "{e}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_many_does_not_count_for_the_next_window() {
    for (before, answer) in [(0, &b"2A\0\0\0\x02"[..]), (1, b"2A\0\0\0\x022A\0\0\0\x02")] {
        let (near, mut far) = duplex(1 << 16);
        let mut client = Client::new(near, options(2));
        for _ in 0..before {
            client.send(&mut window(0, &[b"a", b"b"])).await.unwrap();
        }
        far.write_all(answer).await.unwrap();
        let e = client.send(&mut window(0, &[b"c", b"d"])).await.unwrap_err();
        assert!(e.to_string().contains("sequence 2 is acknowledged, but only 0"), "{e}");
        assert_eq!(client.pending().last(), Some(Progress { window: before, count: 2, acked: 0 }));
        assert_eq!(client.pending().filter(Progress::is_done).count() as u64, before);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_window_closes_the_connection() {
    let (mut client, mut rx, server) = pair(2);
    client.send(&mut window(0, &[b"a", b"b"])).await.unwrap();
    let received = rx.recv().await.unwrap();
    received.ack.partial(&received.window, 1);
    drop(received);
    assert_eq!(client.next_ack().await.unwrap().acked, 1);
    assert!(matches!(client.next_ack().await, Err(ClientError::Closed)));
    assert_eq!(client.pending().collect::<Vec<_>>(), [Progress { window: 0, count: 2, acked: 1 }]);
    assert!(matches!(server.await.unwrap(), Err(ServerError::Abandoned)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_broken_one_reported() {
    let (client, _rx, server) = pair(2);
    assert!(matches!(server.await.unwrap(), Err(ServerError::Inactive(_))));
    drop(client);

    let (mut near, far) = duplex(64);
    let (tx, mut rx) = mpsc::channel(1);
    let server = tokio::spawn(serve(far, ServerOptions::default(), tx));
    near.write_all(b"2W\0\0\0\x002W\0\0\0\x012J").await.unwrap();
    let mut answer = [0; 6];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"2A\0\0\0\0", "an empty window is answered");
    drop(near);
    assert!(matches!(server.await.unwrap(), Err(ServerError::Truncated)));
    assert!(rx.recv().await.is_none());

    let (mut near, far) = duplex(64);
    let (tx, _rx) = mpsc::channel(1);
    let server = tokio::spawn(serve(far, ServerOptions::default(), tx));
    near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(matches!(server.await.unwrap(), Err(ServerError::Protocol(ProtocolError::Version(b'G')))));
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_a_bounded_number_of_windows() {
    let (near, far) = duplex(64);
    let (tx, mut rx) = mpsc::channel(10);
    let _server = tokio::spawn(serve(far, ServerOptions { in_flight: 2, ..ServerOptions::default() }, tx));
    let mut client = Client::new(near, options(10));
    let sending = tokio::spawn(async move {
        for _ in 0..5 {
            client.send(&mut window(0, &[&[b'x'; 100]])).await.unwrap();
        }
        client
    });
    let first = rx.recv().await.unwrap();
    let _second = rx.recv().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), rx.recv()).await.is_err(), "a third isn't read");
    first.ack.done();
    assert!(rx.recv().await.is_some());
    sending.abort();
}

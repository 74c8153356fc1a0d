//! Who speaks HTTP/2 to do harm: it is cut off or no longer listened to, and who was there before is served as if nothing
//! happened, by a server whose memory is bounded.

use std::time::Duration;

use flagd_proto::stream::server_message::Message;
use flagd_tests::load::publish;
use flagd_tests::{RawClient, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The preface, and settings that say nothing.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The reason of a GOAWAY to whom makes too much work (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 11;
/// `GET http /`, out of the static table of headers.
const GET: &[u8] = &[0x82, 0x86, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A stream of a client that never says hello.
fn follow() -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04];
    for (name, value) in [(&[][..], "/flagd.stream.v1.Stream/Follow"), (&[0x0f, 0x10], "application/grpc")] {
        block.extend(name);
        block.push(u8::try_from(value.len()).expect("short"));
        block.extend(value.as_bytes());
    }
    frame(HEADERS, END_HEADERS, 1, &block)
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url().trim_start_matches("http://")).await.expect("the server listens")
}

/// Says something first and then something again and again, until the server ends the connection. What reason it gives.
async fn until_cut(world: &World, first: Vec<u8>, again: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let (mut from, mut to) = connect(world).await.into_split();
    let harm = async {
        to.write_all(&[OPENING, &first].concat()).await?;
        for number in 0.. {
            to.write_all(&again(number)).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let hear = async {
        let mut said = Vec::new();
        // A reset is an end, too.
        while from.read_buf(&mut said).await.is_ok_and(|bytes| bytes > 0) {}
        said
    };
    let both = async { tokio::join!(harm, hear) };
    let (_, said) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is cut off");
    let mut rest = &said[..];
    let mut reason = None;
    while let Some((head, behind)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, behind)) = behind.split_at_checked(length) else { break };
        if head[3] == GOAWAY {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
        }
        rest = behind;
    }
    reason
}

#[tokio::test]
async fn who_makes_work_for_nothing_is_cut_off_and_nobody_else_notices() {
    type Harm = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);
    let harms: Vec<Harm> = vec![
        ("requests that are withdrawn", vec![], |number| {
            let stream = 2 * number + 1;
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, GET), reset].concat()
        }),
        ("requests without an address", vec![], |number| {
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &GET[..1])
        }),
        ("headers without an end", frame(HEADERS, 0, 1, GET), |_| frame(CONTINUATION, 0, 1, &[])),
        ("data without data", follow(), |_| frame(DATA, 0, 1, &[])),
        ("settings without end", vec![], |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9])),
    ];
    let world = World::start_within(256, &[]).await;
    let mut there = RawClient::connect(&world.url(), "there before").await;
    there.follow_to_head().await;
    let mut admin = world.admin().await;
    for (harm, first, again) in harms {
        let reason = until_cut(&world, first, again).await;
        // The system may throw away what a connection has said before it broke.
        assert!(matches!(reason, None | Some(ENHANCE_YOUR_CALM)), "{harm}: {reason:?}");
        publish(&mut admin, "default", "a", harm).await.expect("recorded");
        assert!(matches!(there.next().await, Some(Message::Delta(_))), "{harm}");
    }
}

#[tokio::test]
async fn who_asks_and_does_not_listen_is_not_listened_to() {
    let world = World::start_within(256, &[]).await;
    let mut there = RawClient::connect(&world.url(), "there before").await;
    there.follow_to_head().await;
    let mut deaf = connect(&world).await;
    deaf.write_all(OPENING).await.expect("sent");
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let mut asked_bytes = 0;
    while let Ok(asked) = tokio::time::timeout(Duration::from_secs(2), deaf.write_all(&pings)).await {
        asked.expect("it is still connected");
        asked_bytes += pings.len();
        assert!(asked_bytes < 256 * 1024 * 1024, "it is listened to for ever");
    }
    publish(&mut world.admin().await, "default", "a", "a change").await.expect("recorded");
    assert!(matches!(there.next().await, Some(Message::Delta(_))));
}

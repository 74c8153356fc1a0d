//! Servers that are gone, silent, undecided or well, over real sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use flagd_proto::admin::{ListEnvironmentsRequest, ListEnvironmentsResponse};
use tokio::net::TcpListener;

use super::*;

/// A port on which nobody listens any more.
async fn gone() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Accepts connections and never says anything.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address.to_string()
}

/// What a server that speaks HTTP/2 answers to the request of each number, from 1.
type Script = fn(u32) -> Result<(), Status>;

/// Speaks gRPC and answers as the script says.
async fn speaking(script: Script) -> (String, Arc<Mutex<u32>>) {
    let count = Arc::new(Mutex::new(0_u32));
    let seen = Arc::clone(&count);
    let service = tower::service_fn(move |_request: http::Request<axum::body::Body>| {
        let number = {
            let mut count = seen.lock().unwrap();
            *count += 1;
            *count
        };
        async move {
            let status = script(number).err();
            let answer =
                ListEnvironmentsResponse { server: "it".into(), ..ListEnvironmentsResponse::default() };
            Ok::<_, std::convert::Infallible>(match status {
                Some(status) => status.into_http::<axum::body::Body>(),
                None => grpc_answer(&answer),
            })
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let routes = axum::Router::new().fallback_service(service);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tonic::transport::Server::builder()
            .add_routes(tonic::service::Routes::from(routes))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    (address.to_string(), count)
}

fn grpc_answer(answer: &ListEnvironmentsResponse) -> http::Response<axum::body::Body> {
    let message = answer.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    http::Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .body(axum::body::Body::from(frame))
        .unwrap()
}

fn refusal(code: ErrorCode) -> Status {
    let detail = ErrorDetail { code: code.into(), message: "because".into(), ..ErrorDetail::default() };
    Status::with_details(Code::FailedPrecondition, "because", detail.encode_to_vec().into())
}

async fn ask(addresses: &[String]) -> Result<String, Failure> {
    let mut servers = Servers::new(addresses).unwrap();
    servers.deadline = Duration::from_secs(3);
    let asked =
        servers.call(ListEnvironmentsRequest {}, Some("id-1"), |mut client: Client, request| async move {
            client.list_environments(request).await
        });
    asked.await.map(|answered| {
        assert_eq!(answered.answer.server, "it");
        answered.server
    })
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_gone_or_silent() {
    let (well, _) = speaking(|_| Ok(())).await;
    let cases = [("gone", gone().await), ("silent", silent().await)];
    for (name, first) in cases {
        assert_eq!(ask(&[first, well.clone()]).await, Ok(well.clone()), "{name}");
    }
}

#[tokio::test]
async fn without_any_server_nothing_was_asked() {
    let addresses = [gone().await, gone().await];
    let Err(Failure::NotReached(tried)) = ask(&addresses).await else { panic!("must not be reached") };
    assert_eq!(tried.iter().map(|tried| tried.server.clone()).collect::<Vec<_>>(), addresses);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (refusing, _) = speaking(|_| Err(refusal(ErrorCode::Conflict))).await;
    let (well, asked) = speaking(|_| Ok(())).await;
    let Err(Failure::Refused(detail)) = ask(&[refusing, well]).await else { panic!("must be refused") };
    assert_eq!((detail.code(), detail.message.as_str()), (ErrorCode::Conflict, "because"));
    assert_eq!(*asked.lock().unwrap(), 0, "nobody else is asked");
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_until_somebody_knows() {
    let (undecided, asked) = speaking(|number| match number {
        1 => Err(refusal(ErrorCode::OutcomeUnknown)),
        2 => Err(Status::unavailable("restarting")),
        _ => Ok(()),
    })
    .await;
    assert_eq!(ask(std::slice::from_ref(&undecided)).await, Ok(undecided));
    assert_eq!(*asked.lock().unwrap(), 3);
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_told_with_the_id() {
    let (undecided, _) = speaking(|_| Err(refusal(ErrorCode::OutcomeUnknown))).await;
    let Err(Failure::OutcomeUnknown { request_id, tried }) = ask(&[undecided]).await else {
        panic!("unknown")
    };
    assert_eq!(request_id.as_deref(), Some("id-1"));
    assert_eq!(tried.first().map(|tried| tried.why.as_str()), Some("because"));
}

#[test]
fn addresses_are_checked_before_anybody_is_asked() {
    let cases = [
        ("http://127.0.0.1:8013", Some("127.0.0.1:8013")),
        ("http://flags.example:8013/", Some("flags.example:8013")),
        ("localhost:8013", Some("localhost:8013")),
        ("[::1]:8013", Some("[::1]:8013")),
        ("https://localhost:8013", None),
        ("localhost", None),
        ("http://user:secret@localhost:8013", None),
        ("user@localhost:8013", None),
        ("not an address", None),
        ("", None),
    ];
    for (address, want) in cases {
        let servers = Servers::new(&[address.to_owned()]);
        assert_eq!(servers.as_ref().ok().map(Servers::first_name), want, "{address}");
    }
}

#[test]
fn a_password_is_not_repeated() {
    let addresses = ["http://user:secret@localhost:8013", "https://user:secret@localhost"];
    for address in addresses {
        let Err(Failure::Usage(why)) = Servers::new(&[address.to_owned()]) else { panic!("{address}") };
        assert!(!why.contains("secret"), "{why}");
    }
}

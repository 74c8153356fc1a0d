//! Compiles the .proto files with a compiler written in Rust, so that nobody needs a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/flagd/stream/v1/stream.proto",
        "proto/flagd/admin/v1/admin.proto",
        "proto/flagd/peer/v1/peer.proto",
        "proto/flagd/store/v1/store.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".flagd").build_transport(false).compile_fds(descriptors)?;
    frame_service();
    Ok(())
}

/// The server side of `flagd.stream.v1.Stream` answers with frames that are encoded already, so that a change
/// is encoded once for all subscribers.
fn frame_service() {
    let follow = tonic_build::manual::Method::builder()
        .name("follow")
        .route_name("Follow")
        .input_type("crate::stream::ClientMessage")
        .output_type("crate::frame::Frame")
        .codec_path("crate::frame::FrameCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let service = tonic_build::manual::Service::builder()
        .name("Stream")
        .package("flagd.stream.v1")
        .method(follow)
        .build();
    tonic_build::manual::Builder::new().build_client(false).build_transport(false).compile(&[service]);
}

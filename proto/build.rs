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
    Ok(())
}

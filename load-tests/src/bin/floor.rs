//! The floor server: `floor --port PORT --certs DIR`; prints its port when it is ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use load_tests::certs::Files;
use load_tests::floor::{Floor, FloorError};

/// 11.5 KiB per idle connection instead of 12.6 with the system's; the server uses it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The least a Rust server can do for a frame: mutual TLS record in, unmask, one fixed ack out.
#[derive(Debug, Parser)]
#[command(name = "floor")]
struct Arguments {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Folder made by `fleet-sim certs`.
    #[arg(long, default_value = "certs/dev")]
    certs: PathBuf,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build();
    let outcome = runtime.map_err(FloorError::Bind).and_then(|runtime| runtime.block_on(serve(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<(), FloorError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let floor = Floor::bind(address, &Files::in_dir(&arguments.certs)).await?;
    println!("{}", floor.local_addr()?.port());
    Ok(floor.serve().await?)
}

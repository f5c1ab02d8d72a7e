//! An ordinary tokio server: a task for each connection, a time-out around each read, or, if it is told `short`, around
//! all.

use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const TIMEOUT: Duration = Duration::from_secs(5);

async fn serve_long(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(Ok(1..)) = timeout(TIMEOUT, stream.read(&mut buffer)).await {}
}

async fn serve_short(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    let reading = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    let _ = timeout(TIMEOUT, reading).await;
}

async fn listen(address: String, short: bool) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) if short => drop(tokio::spawn(serve_short(stream))),
            Ok((stream, _)) => drop(tokio::spawn(serve_long(stream))),
            Err(error) => {
                eprintln!("{error}");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let short = std::env::args().nth(2).is_some_and(|variant| variant == "short");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(listen(address, short))
}

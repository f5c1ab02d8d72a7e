//! An ordinary tokio server: a task for each connection, a time-out around each read.

use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

async fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(Ok(1..)) = timeout(Duration::from_secs(5), stream.read(&mut buffer)).await {}
}

async fn listen(address: String) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
            Err(error) => {
                eprintln!("{error}");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(listen(address))
}

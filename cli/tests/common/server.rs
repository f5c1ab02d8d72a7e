//! Servers that are no gateway, or say no more than one thing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A server that gives each greeting this answer. It ends with the test's process.
pub(crate) fn answering(answer: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.to_vec();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, &answer)));
    address
}

/// Answers, ends the stream in good order and waits for its other end.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut input = [0; 1024];
    let _ = stream.read(&mut input);
    let _ = stream.write_all(answer);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while matches!(stream.read(&mut input), Ok(1..)) {}
}

/// A BYE that says never to come back.
pub(crate) fn bye(code: u16, text: &str) -> Vec<u8> {
    let mut bye = vec![9, 0, 0, 16 + u8::try_from(text.len()).unwrap()];
    bye.extend(code.to_be_bytes());
    bye.extend([0; 14]);
    bye.extend(text.as_bytes());
    bye
}

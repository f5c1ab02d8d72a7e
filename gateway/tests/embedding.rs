//! The embedding example, taken in as source and talked to over a socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

#[path = "../examples/greeter.rs"]
#[expect(dead_code, reason = "the example's main is the program's, a test starts the gateway itself")]
mod greeter;

/// Bounds every wait; nothing is judged by it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self { stream: BufReader::new(stream) }
    }

    fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(line.as_bytes()).expect("a connection");
    }

    /// The next line; empty at the end of the connection.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line or an end within 30 s");
        line
    }
}

#[test]
fn lines_are_answered_counted_and_the_third_is_the_last() {
    let gateway = greeter::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut first = Client::connect(gateway.addresses()[0]);
    let mut second = Client::connect(gateway.addresses()[0]);
    first.say("hello\n");
    assert_eq!(first.hear(), "welcome, line 1 of yours, 1 of all\n");
    second.say("hello\r\n");
    assert_eq!(second.hear(), "welcome, line 1 of yours, 2 of all\n");
    first.say("one more\nand the last\n");
    assert_eq!(first.hear(), "welcome, line 2 of yours, 3 of all\n");
    assert_eq!(first.hear(), "welcome, line 3 of yours, 4 of all\n");
    assert_eq!(first.hear(), "goodbye: application\n");
    assert_eq!(first.hear(), "");
}

#[test]
fn the_deadline_that_the_sink_sets_ends_a_connection_before_the_listener_would() {
    let gateway = greeter::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut client = Client::connect(gateway.addresses()[0]);
    client.say("hello\n");
    assert_eq!(client.hear(), "welcome, line 1 of yours, 1 of all\n");
    assert_eq!(client.hear(), "goodbye: read deadline\n");
    assert_eq!(client.hear(), "");
}

#[test]
fn a_stopped_gateway_has_counted_everything() {
    let gateway = greeter::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let control = gateway.control();
    let mut client = Client::connect(gateway.addresses()[0]);
    client.say("hello\n");
    client.hear();
    control.stop();
    let counts = gateway.wait().unwrap();
    assert_eq!((counts.accepted(), counts.messages(), counts.ended_in_all()), (1, 1, 1));
    assert_eq!(counts.reasons_phrase(), "stopped 1");
    assert_eq!(control.counts_of_listeners(), [counts]);
}

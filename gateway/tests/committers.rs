//! What commits, over real sockets: a commit point of the embedding program, and several of them in one gateway.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pulse::{PulseClient, Seen};
use common::recorder::Recorder;
use common::{PATIENCE, RECORDER, connect, listener, one_shard, wait_until};
use journal::{Journal, Kept, Messages};
use pulsegate::config::Place;
use pulsegate::{Config, Gateway, ListenerConfig, Protocol, PushRefusal, Recipient, SendError, StartError};
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc::channel;

#[path = "../examples/journal.rs"]
#[expect(dead_code, reason = "the example's main is the program's, a test starts the gateway itself")]
mod journal;

fn kept(messages: &Messages) -> Vec<Kept> {
    messages.lock().unwrap().clone()
}

#[test]
fn a_committer_of_the_embedding_program_keeps_sessions_and_what_clients_send() {
    let messages = Messages::default();
    let gateway = journal::start((Ipv4Addr::LOCALHOST, 0).into(), &messages).unwrap();
    let address = gateway.addresses()[0];
    let (mut client, welcomed) = PulseClient::attached(address, "me");
    assert!(!welcomed.resumed);
    assert_eq!((client.send(b"one"), client.send(b"two")), (1, 2));
    client.settled(2);
    let (session, token) = (welcomed.session, welcomed.token);
    // Its connection is cut with a message on the way, which is committed once.
    client.send(b"three");
    let mut client = client.resume(address, "me", session, token);
    let welcomed = client.welcomed();
    assert!(welcomed.resumed);
    client.settled(3);
    let message =
        |number, payload: &[u8]| Kept { client: "me".into(), session, number, payload: payload.into() };
    assert_eq!(kept(&messages), [message(1, b"one"), message(2, b"two"), message(3, b"three")]);
    // A stranger learns nothing of it.
    let (client, _) = PulseClient::attached(address, "me");
    let mut stranger = client.resume(address, "me", session, [7; 16]);
    assert_eq!(stranger.bye(), pulsegate::CloseReason::BadToken.code());
    // Raw clients have neither sessions nor receipts.
    connect(address).write_all(b"raw").unwrap();
    wait_until("the raw message", || kept(&messages).len() == 4);
    assert_eq!((kept(&messages)[3].session, &*kept(&messages)[3].payload), (0, &b"raw"[..]));
    gateway.control().stop();
    gateway.wait().unwrap();
}

#[test]
fn a_sink_learns_which_client_speaks_and_in_which_session() {
    let recorder = Recorder::default();
    let listener = listener(|listener| listener.policy.protocol = Protocol::Auto);
    let gateway = Gateway::builder()
        .config(one_shard(vec![listener]))
        .sink(RECORDER, recorder.clone())
        .start()
        .unwrap();
    let address = gateway.addresses()[0];
    // What stands between two ids is told apart.
    let longest = "\u{e9}".repeat(64);
    let ids = ["sensor-7", &longest, "a"];
    let mut clients = ids.map(|id| PulseClient::attached(address, id));
    for (client, _) in &mut clients {
        client.send(b"hello");
        client.settled(1);
    }
    connect(address).write_all(b"raw\n").unwrap();
    wait_until("all are there", || (1..=4).all(|number| recorder.message_count(number) == 1));
    for (number, (id, (_, welcomed))) in (1..).zip(ids.iter().zip(&clients)) {
        assert_eq!(recorder.life(number).sender, Some(((*id).to_owned(), welcomed.session)));
        assert_eq!(recorder.texts(number), ["hello"]);
    }
    assert_eq!((recorder.life(4).sender, recorder.texts(4)), (None, vec!["raw".to_owned()]));
    gateway.control().stop();
    gateway.wait().unwrap();
}

#[test]
fn a_committer_that_cannot_be_made_or_takes_too_little_is_no_start() {
    let start = |change: fn(&mut ListenerConfig), makes: bool| {
        let listener = listener(|listener| {
            listener.sink = "journal".to_owned();
            change(listener);
        });
        let builder = Gateway::builder().config(one_shard(vec![listener]));
        builder
            .committer("journal", move |replies| match makes {
                true => Ok(Journal::open(Messages::default(), replies)?),
                false => Err("no disk".into()),
            })
            .start()
            .map(|_| ())
    };
    assert!(start(|_| {}, true).is_ok());
    let error = start(|_| {}, false).unwrap_err();
    assert_eq!(error.to_string(), "can't make the committer journal: no disk");
    match start(|listener| listener.policy.message_bytes_max = (1 << 20) + 1, true) {
        Err(StartError::Config(faults)) => {
            let [fault] = faults.0.as_slice() else { panic!("{faults}") };
            assert_eq!((fault.place, fault.key), (Place::Listener(0), "message_bytes_max"));
            assert_eq!(fault.problem, "\"journal\" takes at most 1048576 bytes in a message");
        }
        other => panic!("{other:?}"),
    }
    // One that no listener names is not made.
    let other = Gateway::builder().config(one_shard(vec![listener(|it| it.sink = "discard".to_owned())]));
    assert!(other.committer::<Journal>("journal", |_| Err("not wanted".into())).start().is_ok());
}

#[test]
fn a_message_to_a_client_goes_by_the_committer_that_is_meant() {
    let directory = tempfile::tempdir().unwrap();
    let of_sink = |sink: &str| {
        listener(|listener| {
            listener.sink = sink.to_owned();
            listener.policy.protocol = Protocol::Auto;
        })
    };
    let listeners = ["journal", "store", "discard"].map(of_sink).into();
    let config = Config { data_dir: directory.path().to_owned(), ..one_shard(listeners) };
    let messages = Messages::default();
    let gateway = Gateway::builder()
        .config(config)
        .committer("journal", move |replies| Ok(Journal::open(messages, replies)?))
        .start()
        .unwrap();
    // The same client at each of them; with the first two it is in session 1.
    let addresses = gateway.addresses().to_owned();
    let mut clients: Vec<_> =
        addresses.iter().map(|address| PulseClient::attached(*address, "twin").0).collect();
    let control = gateway.control();
    let outcome = |sink: &str, to: Recipient| {
        let (sender, outcome) = channel();
        control.send_by(sink, to, sink.as_bytes(), move |outcome| sender.send(outcome).unwrap()).unwrap();
        outcome.recv_timeout(PATIENCE).unwrap()
    };
    let twin = || Recipient::Client("twin".to_owned());
    assert_eq!(outcome("store", Recipient::Session(1)), Ok((1, 1)));
    assert!(outcome("discard", twin()).is_ok());
    assert_eq!(outcome("journal", Recipient::Session(1)), Ok((1, 1)));
    assert_eq!(outcome("journal", Recipient::Session(2)), Err(PushRefusal::NoSession));
    for (client, text) in clients.iter_mut().zip(["journal", "store", "discard"]) {
        client.wait_for(|seen| *seen == Seen::Message(1, text.as_bytes().to_vec()));
    }
    let refused = control.send_by("print", twin(), *b"x", |_| {});
    assert_eq!(refused, Err(SendError::NoSessions));
    gateway.control().stop();
    gateway.wait().unwrap();
}

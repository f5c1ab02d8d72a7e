//! What a gateway must refuse, as protocol-vectors.txt has it (PROTOCOL.md section 10).

use crate::driver::Driver;
use crate::read_vectors::vectors;
use crate::words::{Said, patient};
use pulsegate_core::exchange::Window;
use pulsegate_core::frame::PREFACE;
use pulsegate_core::policy::Policy;

#[test]
fn what_must_be_refused_ends_the_connection_with_its_code() {
    let mut refused = 0;
    for vector in vectors() {
        let (Some(code), Some(state)) = (vector.code(), vector.field("state")) else { continue };
        let mut policy = Policy { message_bytes_max: 1000, ..patient() };
        policy.pulse.window = Window { messages: 2, bytes: 1000 };
        let mut driver = match state {
            "attached" => Driver::attached(policy),
            _ => Driver::new(policy),
        };
        if state == "opening" {
            driver.receive(&PREFACE);
        }
        driver.receive(&vector.bytes);
        if vector.field("end").is_some() {
            driver.end_input();
        }
        let reason = driver.reason().map(|reason| reason.code());
        assert_eq!(reason, Some(code), "{}", vector.name);
        let said = driver.said();
        assert!(
            matches!(said[..], [Said::Bye { code: said, .. }] if said == code),
            "{}: {said:?}",
            vector.name
        );
        refused += 1;
    }
    assert!(refused > 60, "{refused}");
}

//! Reads `protocol-vectors.txt`, which the tests of every implementation read (PROTOCOL.md section 10). Must not know
//! what a frame is.

const VECTORS: &str = include_str!("../../../protocol-vectors.txt");

/// What stands between two names.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    /// Its lines but the last: a key and a value each.
    pub(crate) fields: Vec<(&'static str, &'static str)>,
    pub(crate) bytes: Vec<u8>,
}

impl Vector {
    pub(crate) fn field(&self, key: &str) -> Option<&'static str> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// With which code it must be refused; `None`: it must be understood.
    pub(crate) fn code(&self) -> Option<u16> {
        self.field("code").map(|code| code.parse().expect("a number"))
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in VECTORS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').expect("a bracket");
            vectors.push(Vector { name, fields: Vec::new(), bytes: Vec::new() });
            continue;
        }
        let vector = vectors.last_mut().expect("a name comes first");
        let (key, value) = line.split_once(": ").expect("a key and a value");
        if key == "bytes" { vector.bytes = unhex(value) } else { vector.fields.push((key, value)) }
    }
    vectors
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hex") as u8;
    assert!(text.len().is_multiple_of(2), "{text}");
    text.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

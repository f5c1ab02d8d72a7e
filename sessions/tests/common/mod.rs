//! What several tests of the rules use.

pub(crate) mod rows;

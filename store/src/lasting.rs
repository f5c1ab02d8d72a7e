//! Warnings that would come with each tick, told once.

use std::fmt::Display;

/// A fault that lasts: it is told once, and again when it has become another one.
#[derive(Debug, Default)]
pub(crate) struct Lasting(Option<String>);

impl Lasting {
    /// The fault is there. Whether that is news.
    pub(crate) fn is_news(&mut self, fault: &dyn Display) -> bool {
        let fault = Some(fault.to_string());
        let is_news = self.0 != fault;
        self.0 = fault;
        is_news
    }

    /// It is over.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_lasts_is_told_once_until_it_is_another_one_or_comes_back() {
        let mut fault = Lasting::default();
        let told: Vec<_> =
            ["no room", "no room", "no rights", "no rights"].iter().map(|text| fault.is_news(text)).collect();
        assert_eq!(told, [true, false, true, false]);
        fault.end();
        assert!(fault.is_news(&"no rights"));
    }
}

//! Pins that keep segments of V8's table of functions mapped.
//!
//! Every function of a context has an entry in that table, whose segments are 16 KiB. A collection
//! of finished contexts empties nearly all of them; V8 unmaps those, and the next contexts map them
//! again and fault each page in, which is a twentieth of a call and stops the other isolates'
//! threads while page tables change. A segment in which one function lives stays mapped.
//!
//! In: contexts as they are made. Out: nothing. Invariant: a bounded number of pins, which hold no
//! context of a call alive.

/// Contexts made before the first pin: an isolate that is called seldom needs none.
const SELDOM: usize = 64;

/// Pins at most: each holds at most one segment, 16 KiB.
const MOST: usize = 256;

/// The pins of one isolate; they go when they are dropped.
#[derive(Default)]
pub(crate) struct Pins {
    contexts: usize,
    /// Where the functions live: no call runs in it.
    home: Option<v8::Global<v8::Context>>,
    functions: Vec<v8::Global<v8::Function>>,
}

impl Pins {
    /// A context was made, so the next entry is likely to be in another segment.
    pub(crate) fn note_context(&mut self, scope: &mut v8::PinScope<'_, '_, ()>) {
        self.contexts += 1;
        if self.contexts <= SELDOM || self.functions.len() == MOST {
            return;
        }
        v8::scope!(let scope, scope);
        let home = match &self.home {
            Some(home) => v8::Local::new(scope, home),
            None => v8::Context::new(scope, v8::ContextOptions::default()),
        };
        if self.home.is_none() {
            self.home = Some(v8::Global::new(scope, home));
        }
        let scope = &mut v8::ContextScope::new(scope, home);
        if let Some(function) = v8::Function::new(scope, do_nothing) {
            self.functions.push(v8::Global::new(scope, function));
        }
    }
}

fn do_nothing(
    _: &mut v8::PinScope<'_, '_>,
    _: v8::FunctionCallbackArguments<'_>,
    _: v8::ReturnValue<'_>,
) {
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolate_has_a_bounded_number_of_pins_once_it_is_busy() {
        crate::platform::initialize();
        let mut isolate = v8::Isolate::new(v8::CreateParams::default());
        let mut pins = Pins::default();
        {
            v8::scope!(let scope, &mut isolate);
            (0..SELDOM).for_each(|_| pins.note_context(scope));
            assert!(pins.home.is_none());
            (0..MOST + 3).for_each(|_| pins.note_context(scope));
            assert_eq!(pins.functions.len(), MOST);
            let numbers = isolate_contexts(scope);
            assert_eq!(numbers, 1, "all functions live in one context");
        }
        drop(pins);
        isolate.low_memory_notification();
        v8::scope!(let scope, &mut isolate);
        assert_eq!(isolate_contexts(scope), 0);
    }

    fn isolate_contexts(scope: &mut v8::PinScope<'_, '_, ()>) -> usize {
        scope.get_heap_statistics().number_of_native_contexts()
    }
}

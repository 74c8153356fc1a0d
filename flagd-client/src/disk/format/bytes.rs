//! Arbitrary bytes as a file of the disk cache: read or passed over, never a panic, never another state than was saved.
//!
//! The tests below call it with damaged files on every run, `fuzz/` with what libFuzzer finds.

use super::*;

/// The bytes as a file, and as the content of a file whose checksum is right.
pub(crate) fn any_bytes(bytes: &[u8]) {
    let Ok(environment) = EnvironmentName::new("production") else { return };
    for file in [bytes.to_vec(), seal(STATE_MAGIC, bytes), seal(KILLS_MAGIC, bytes)] {
        if let Ok(saved) = read_state(&file, &environment) {
            let again = read_state(&write_state(&saved), &environment);
            assert_eq!(again.as_ref(), Ok(&saved), "what was read is what is written");
        }
        if let Ok(kills) = read_kills(&file, &environment) {
            let again = read_kills(&write_kills(&kills, &environment), &environment);
            assert!(again.is_ok_and(|again| again.by_flag == kills.by_flag), "no kill is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn saved() -> SavedState {
        let environment = EnvironmentName::new("production").unwrap();
        let entry = |key, text: &str| {
            (
                EntryId::new(EntryKind::FLAG, key),
                StoredEntry { bytes: text.as_bytes().into(), revision: Revision(3) },
            )
        };
        let entries = [entry("a", "{}"), entry("b", "{\"rollout\":25}")];
        let last_good = LastGood::from([(EntryId::new(EntryKind::FLAG, "a"), b"good".as_slice().into())]);
        let state = State::from_entries(environment, Epoch { minted_ms: 5, random: 9 }, Revision(7), entries);
        SavedState { state, last_good, confirmed_at_ms: Some(17) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_damaged_file_is_passed_over(damages in vec((any::<Index>(), any::<u8>()), 0..4), cut in any::<Index>(), is_cut in any::<bool>()) {
            let saved = saved();
            let whole = write_state(&saved);
            let mut file = whole.clone();
            for (at, byte) in damages {
                file[at.index(whole.len())] = byte;
            }
            if is_cut {
                file.truncate(cut.index(whole.len()));
            }
            let environment = saved.state.environment().clone();
            prop_assert_eq!(read_state(&file, &environment).is_ok(), file == whole, "a file is read whole or not at all");
            any_bytes(&file);
            // The same damage behind a checksum that is right: only the content is left to object.
            any_bytes(file.get(28..).unwrap_or_default());
        }

        #[test]
        fn any_bytes_are_read_or_passed_over(bytes in vec(any::<u8>(), 0..300)) {
            any_bytes(&bytes);
        }
    }
}

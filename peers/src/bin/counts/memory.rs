//! Memory of loaded definitions.
//!
//! Counted is what is allocated from the text in hand to an engine that can be asked, and what of it is still held
//! then; the text itself is the caller's and not counted.

use std::collections::BTreeMap;
use std::process::Command;

use allocation_counter::measure;
use flagd_core::snapshot::Snapshot;
use flagd_peers::candidates::{CORE, state_of_core, that_load};
use flagd_peers::engine::{Definitions, Failure};
use flagd_peers::spec::Spec;
use flagd_peers::table::{Table, figure};

/// The argument that asks for one measurement.
pub(crate) const OF: &str = "memory-of";
/// The core's snapshot without the state that it is made of.
const SNAPSHOT: &str = "flagd-core, the snapshot alone";

/// Measures each candidate at each size, each in a process of its own, and prints the table.
pub(crate) fn print(sizes: [usize; 2]) -> Result<(), Failure> {
    let heads = sizes.iter().flat_map(|flags| {
        [format!("at {flags}: bytes a flag"), "live, MB".to_owned(), "peak, MB".to_owned()]
    });
    let mut table = Table::new(1, [String::new()].into_iter().chain(heads));
    let names = that_load().map(|candidate| candidate.name);
    for name in [SNAPSHOT].into_iter().chain(names) {
        let mut row = vec![name.to_owned()];
        for flags in sizes {
            let (live, peak) = of(name, flags)?;
            row.extend([per_flag(live, flags), figure(live / 1e6), figure(peak / 1e6)]);
        }
        table.row(row);
    }
    println!("### Memory of simple flags\n\n{table}");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "thousands of flags")]
fn per_flag(bytes: f64, flags: usize) -> String {
    figure(bytes / flags as f64)
}

/// Bytes that are held and that were held at most, measured by another process.
fn of(name: &str, flags: usize) -> Result<(f64, f64), Failure> {
    let output = Command::new(std::env::current_exe()?).args([OF, name, &flags.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    match (figures.next(), figures.next()) {
        (Some(Ok(live)), Some(Ok(peak))) => Ok((live, peak)),
        _ => Err(Failure::Definitions(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Measures one candidate at one size and prints two figures, for [`of`].
pub(crate) fn print_of(name: &str, flags: &str) -> Result<(), Failure> {
    let flags: usize = flags.parse().map_err(|_| Failure::Usage(format!("{flags} is no number of flags")))?;
    let spec = Spec::simple(flags);
    let candidate =
        that_load().find(|candidate| candidate.name == if name == SNAPSHOT { CORE.name } else { name });
    let candidate = candidate.ok_or_else(|| Failure::Usage(format!("no candidate is called {name}")))?;
    let definitions = candidate.write(&spec)?;
    drop(spec);
    let mut counted = if name == SNAPSHOT {
        snapshot(&definitions)?
    } else {
        let mut engine = None;
        let counted = measure(|| engine = Some((candidate.load)(&definitions)));
        drop(engine.transpose()?);
        counted
    };
    if definitions.file.is_some() {
        // A thread of the runtime reads the file, and this thread frees what it read: freed here, never counted.
        counted.bytes_current += i64::try_from(definitions.text.len()).unwrap_or_default();
    }
    println!("{} {}", counted.bytes_current, counted.bytes_max);
    Ok(())
}

fn snapshot(definitions: &Definitions) -> Result<allocation_counter::AllocationInfo, Failure> {
    let state = state_of_core(&definitions.text)?;
    let mut snapshot = None;
    let counted = measure(|| snapshot = Some(Snapshot::build(&state, &BTreeMap::new())));
    drop(snapshot);
    Ok(counted)
}

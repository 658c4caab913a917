//! Requests under `/-/`: counters and settings for programs in other languages.

use super::{Network, Shared, reset};

/// Answers a request under `/-/`. Returns the status and the text.
pub(super) fn answer(shared: &mut Shared, path: &str) -> (u16, String) {
    let (name, argument) = path.split_once('?').unwrap_or((path, ""));
    match name {
        "stats" => (200, stats(shared)),
        "reset" => {
            reset(shared);
            (200, stats(shared))
        }
        "set" => change(shared, |network| network.set_all(&argument.replace('&', ","))),
        "preset" => change(shared, |network| {
            Network::preset(argument).map(|preset| *network = preset)
        }),
        _ => (404, "unknown control path\n".into()),
    }
}

fn change(
    shared: &mut Shared,
    apply: impl FnOnce(&mut Network) -> Result<(), super::Unknown>,
) -> (u16, String) {
    let mut network = shared.network.clone();
    match apply(&mut network) {
        Ok(()) => {
            shared.network = network;
            shared.resets = true;
            (200, stats(shared))
        }
        Err(error) => (400, format!("{error}\n")),
    }
}

fn stats(shared: &Shared) -> String {
    let counters = &shared.counters;
    format!(
        "{{\"requests\":{},\"refused\":{},\"connections\":{},\"bytes\":{},\"in_flight\":{},\
         \"most_in_flight\":{}}}\n",
        counters.requests,
        counters.refused,
        counters.connections,
        counters.bytes,
        counters.in_flight,
        counters.most_in_flight,
    )
}

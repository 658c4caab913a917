#!/bin/sh
# Tests the tests: removes one guard at a time from a copy of the tree, and requires that the seeded tests notice within 1,000 seeds. Prints a table, and fails if a guard's removal goes
# unnoticed, or if the code that it names is no longer there. Arguments pick guards by a part of their name.
#
# A mutant that runs out of real time is told as such: the tests run on a simulated clock and should notice a hang by their own bounds.
set -eu
cd "$(dirname "$0")/.."
copy=${MUTATE_COPY:-$PWD/target/mutants}
mkdir -p "$copy/tree"
# Only what differs, so that cargo builds no more than that.
git ls-files | while read -r path; do
    cmp -s "$path" "$copy/tree/$path" || cp --parents "$path" "$copy/tree"
done
export CARGO_TARGET_DIR="$copy/target" RUST_BACKTRACE=0 PGET_SEEDS="${PGET_SEEDS:-1000}"
# Little of the tree changes from one mutant to the next, and the seeds run many times faster for this much of an optimiser; the testkit is built again for each, and used little.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
quickly='--config profile.dev.package.pget-testkit.opt-level=0'
tests='simulation crowd schedule_seeded schedule_straggler schedule_throttle'
unnoticed=0

build() {
    (cd "$copy/tree" && cargo test $quickly --locked -p pget-core $(printf -- '--test %s ' $tests) --no-run) > "$copy/log" 2>&1
}

# guard NAME FILE OLD NEW: both texts are taken as they stand; OLD must be there exactly once.
guard() {
    name=$1 file=crates/pget-core/src/$2
    case "$name" in *"$only"*) ;; *) return 0 ;; esac
    if ! OLD=$3 NEW=$4 perl -0777 -pe '
        my $count = () = /\Q$ENV{OLD}\E/g;
        die "there $count times\n" if $count != 1;
        s/\Q$ENV{OLD}\E/$ENV{NEW}/' "$copy/tree/$file" > "$copy/mutant" 2> "$copy/why"; then
        echo "$name: what it guards has moved in $file: $(cat "$copy/why")" >&2
        exit 1
    fi
    cp "$copy/tree/$file" "$copy/right"
    cp "$copy/mutant" "$copy/tree/$file"
    # Built apart, so that a mutant that does not compile counts as a mistake here.
    if ! build; then
        echo "$name: does not compile: see $copy/log" >&2
        exit 1
    fi
    cp "$copy/log" "$copy/built"
    result=UNNOTICED
    for test in $tests; do
        status=0
        program=$(sed -n "s|^ *Executable tests/$test[./].*(\(.*\))\$|\1|p" "$copy/built")
        (cd "$copy/tree/crates/pget-core" && timeout 120 "$program") > "$copy/log" 2>&1 || status=$?
        if [ "$status" = 124 ]; then
            result="$test: OUT OF TIME"
        elif [ "$status" != 0 ]; then
            why=$(grep -m1 -oE '^(seed [0-9]+: |assertion |[a-z ]*panicked).{0,100}' "$copy/log" || grep -m1 -A1 'panicked at' "$copy/log" | tail -1)
            result="$test: ${why:-it ends with status $status}"
        fi
        if [ "$status" != 0 ]; then break; fi
    done
    if [ "$result" = UNNOTICED ]; then unnoticed=$((unnoticed + 1)); fi
    printf '%-34s %s\n' "$name" "$result"
    cp "$copy/right" "$copy/tree/$file"
}

all() {
    guard "range's start" download/accept.rs 'if reply.start != request.start {' 'if false {'
    guard "range's end" download/accept.rs '&& end > wanted' '&& end > wanted && false'
    guard "body within the object" download/accept.rs '&& end > total' '&& end > total && false'
    guard "size as before" download/accept.rs '(Some(was), Some(is)) if was != is =>' '(Some(was), Some(is)) if was != is && false =>'
    guard "size that was told" download/accept.rs 'let total = total.or(known);' ''
    guard "part is no end" download/shared/host.rs 'if answer.total.is_none() && answer.body_end != flight.request.end {' 'if false {'
    guard "revision as before" download/accept.rs 'Match::Changed(how) => Err(SourceError::fatal(ErrorKind::ObjectChanged, how)),' 'Match::Changed(_) => Ok(true),'
    guard "what later replies told" download/accept.rs 'told.revision.learn(&reply.revision);' ''
    guard "reply tells its revision" download/accept.rs 'if !same_revision(pinned, revision)? && pinned.revision.is_identity() {' 'if !same_revision(pinned, revision)? && false {'
    guard "range ignored later" download/accept.rs 'if reply.whole && request.end.is_some() && !is_all && pinned.ranges != Some(false) {' 'if false {'
    guard "attempts in flight" schedule/mod.rs 'if self.in_flight >= permits {' 'if self.in_flight > permits {'
    guard "window" schedule/mod.rs 'let in_window = self.places.len() < ' 'let in_window = self.places.len() <= '
    guard "pause after throttling" schedule/mod.rs 'let held_until = self.paused_until.max(self.throttle.next_at());' 'let held_until = self.throttle.next_at();'
    guard "pace" schedule/mod.rs 'let held_until = self.paused_until.max(self.throttle.next_at());' 'let held_until = self.paused_until;'
    guard "fewer after throttling" schedule/throttle.rs 'self.level = (permits < self.most).then_some(Level { permits, raise });' 'self.level = (permits > self.most).then_some(Level { permits, raise });'
    guard "level refuted" schedule/throttle.rs 'if self.level_trial.is_refuted(between, self.level.is_some()) {' 'if self.level_trial.is_refuted(between, self.level.is_some()) && false {'
    guard "rarer raises" schedule/throttle.rs 'self.after = (self.after * 2).min(RAREST_RAISE);' ''
    guard "retries end" schedule/events.rs '.is_some_and(|retries| counted > retries)' '.is_some_and(|_| false)'
    guard "patience ends" schedule/health.rs 'Some(self.run?.since + self.retry_timeout)' 'Some(self.run?.since + self.retry_timeout * 2)'
    guard "bytes renew the patience" schedule/health.rs 'pub(super) const fn progressed(&mut self) {
        self.run = None;' 'pub(super) const fn progressed(&mut self) {'
    guard "one probe for each pause" schedule/mod.rs 'let at = probe_at.max(self.paused_until).max(self.throttle.next_at());' 'let at = probe_at.min(now);'
    guard "trouble is noticed" schedule/health.rs '.is_some_and(|since| in_flight == 0 || since + UNSURE <= now)' '.is_some_and(|_| false)'
    guard "silence is trouble" schedule/straggler.rs '(now.saturating_sub(since.max(oldest)) >= limit).then_some(since.max(oldest))' 'None'
    guard "silent probe makes room" schedule/straggler.rs 'self.silent_probe(now)?' 'None?'
    guard "refusal asked again" schedule/events.rs 'if how == Ended::Refused && place.alone {' 'if how == Ended::Refused {'
    guard "refusal alone is believed" schedule/events.rs 'if how == Ended::Refused && place.alone {' 'if false {'
    guard "stream not overtaken" schedule/mod.rs 'if self.is_stream() && soonest.is_some() {' 'if false {'
    guard "stream without identity" schedule/events.rs '|| !self.may_resume() && position > self.plan.start()' '|| !self.may_resume() && position > u64::MAX - 1'
    guard "identity for ranges" schedule/events.rs 'Phase::Probe if !identity && self.plan.chunks()' 'Phase::Probe if false && self.plan.chunks()'
    guard "one writer a slot" ring/slot.rs '.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()' '.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok() || true'
    guard "fence waits for the writer" download/shared/fence.rs 'if flight.slot.is_claimed() {' 'if false {'
    guard "fences of a chunk" schedule/straggler.rs '&& place.fences < MOST_OF_A_CHUNK' ''
    guard "fences of a download" schedule/straggler.rs 'self.stragglers.fences.saturating_sub(self.stragglers.paid * 2)' '0 * self.stragglers.paid'
    guard "far slower" schedule/straggler.rs 'rate.saturating_mul(FAR) <= norm.rate &&' ''
    guard "no fence while it speeds up" schedule/straggler.rs '&& !track.speeds_up()' ''
    guard "stall deadline" download/watchdog.rs '} else if now - since >= deadlines.stall {' '} else if false {'
    guard "first-byte deadline" download/watchdog.rs 'if now - since >= deadlines.first_byte {' 'if false {'
    guard "answer with no byte" download/accept.rs 'if reply.length == Some(0) &&' 'if false &&'
    guard "checksum as before" download/accept.rs 'if was.contradicts(is) =>' 'if was.contradicts(is) && false =>'
    guard "offset within the object" download/accept.rs '&& request.start > total' '&& request.start > total && false'
    guard "skips to the range" download/accept.rs 'skip: request.start,' 'skip: 0,'
    guard "body ends where it said" ring/writer.rs 'Some(Accepted { end: Some(end), .. }) => end.min(self.slot.end()),' 'Some(Accepted { end: Some(_), .. }) => self.slot.end(),'
    guard "withheld until released" ring/writer.rs 'self.at += count;
        if self.withheld_from.is_some() {' 'self.at += count;
        if false {'
    guard "goes on at the watermark" ring/writer.rs 'let at = slot.filled();' 'let at = 0;'
    guard "slot given back" ring/slot.rs 'self.claimed.store(false, Ordering::SeqCst);' ''
    guard "memory given back" budget.rs 'drop(permit.split(surplus));' 'std::mem::forget(permit.split(surplus));'
    guard "connections" budget.rs 'Arc::clone(&self.connections).acquire_owned().await.ok()' 'Arc::clone(&self.connections).try_acquire_owned().ok()'
    guard "short body goes on" schedule/events.rs 'if position >= end {
            return self.filled(' 'if position >= end || how == Ended::Complete {
            return self.filled('
    guard "longest pause" schedule/health.rs 'after.min(left - left / 20)' 'after'
    guard "late bytes of a stream" download/shared/attempts.rs 'if start > state.schedule.plan().start() && !state.schedule.may_resume() {' 'if false {'
    guard "later attempts know the revision" download/shared/attempts.rs 'pinned: state.pinned.clone().or_else(|| state.pin.clone()),' 'pinned: state.pin.clone(),'
    guard "first outcome stays" download/shared.rs 'self.finish_unless(outcome, |state| state.outcome.is_some());' 'self.finish_unless(outcome, |_| false);'
    guard "order of the ring" download/shared.rs '.front()
                .map_or(AtCursor::Nothing' '.back()
                .map_or(AtCursor::Nothing'
    guard "consumer is woken at the end" download/shared.rs 'self.consumer.wake();
        self.room.wake();' 'self.room.wake();'
    guard "room in the window is told" download/shared.rs 'self.driver.notify_one();
        self.room.wake();
    }

    // For the driver' 'self.driver.notify_one();
    }

    // For the driver'
    guard "consumption is told" download/shared.rs 'self.moved.notify_waiters();
        self.driver.notify_one();' 'self.moved.notify_waiters();'
    guard "consumer hears of bytes" download/shared/host.rs 'if slot.chunk() == self.cursor.load(Ordering::SeqCst) {' 'if false {'
    guard "given up, no more memory" download/shared/host.rs '|| !state.requests.contains_key(&id)' ''
    guard "checksum in order" download/reader.rs 'self.shared.verified(check.finish())' 'self.shared.verified(check.finish().or(Ok(())))'
    guard "last lease is held back" download/reader.rs 'if total.is_some() && self.withheld.is_none() {' 'if self.withheld.is_none() {'
    guard "checksum of what is placed" download/shared/verifying.rs 'return self.verified(sums.finish(end))' 'return self.verified(sums.finish(end).or(Ok(())))'
    guard "required checksum" download/shared/verifying.rs 'state.verification = why;
                if state.verify == Verify::Require {' 'state.verification = why;
                if false {'
    guard "cursor waits for no memory" download/driver.rs 'self.budget.try_reserve(bytes, at_cursor)' 'self.budget.try_reserve(bytes, false)'
    guard "stream waits for no memory" download/shared/host.rs 'self.budget.try_reserve(bytes, at_cursor)' 'self.budget.try_reserve(bytes, false)'
    guard "memory within the budget" download/driver.rs 'self.budget.try_reserve(bytes, at_cursor)' 'self.budget.try_reserve(bytes, true)'
    guard "cursor waits for no connection" download/driver.rs '() = shared.cursor_reaches(attempt.chunk) => None,' '() = pending() => None,'
}

if [ $# -eq 0 ]; then set -- ''; fi
for only in "$@"; do all; done
exit $((unnoticed > 0))

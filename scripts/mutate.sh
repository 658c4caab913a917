#!/bin/sh
# Tests the tests: removes one guard at a time from a copy of the tree, and requires that the seeded
# tests notice within 1,000 seeds. Prints a table, and fails if a guard's removal goes unnoticed, or
# if the code that it names is no longer there. Arguments pick guards by a part of their name; with
# --check alone, it is only checked that the code that each guard names is there.
#
# The tests of the schedule are tried first where the guard is in the schedule: they build in
# seconds. A mutant that runs out of real time is reported as such: the tests run on a simulated
# clock and should notice a hang by their own bounds.
set -eu
cd "$(dirname "$0")/.."
copy=${MUTATE_COPY:-$PWD/target/mutants}
mkdir -p "$copy/tree"
# Files that were moved or removed leave the copy.
git ls-files | sort >"$copy/files"
(
    cd "$copy/tree"
    find . -type f -o -type l | sed 's|^\./||' | sort | comm -23 - ../files | xargs -r -d '\n' rm -f
)
# Only what differs, so that cargo builds no more than that.
git ls-files | while read -r path; do
    cmp -s "$path" "$copy/tree/$path" || cp --parents "$path" "$copy/tree"
done
export CARGO_TARGET_DIR="$copy/target" RUST_BACKTRACE=0 PGET_SEEDS="${PGET_SEEDS:-1000}"
# Little of the tree changes from one mutant to the next, and the seeds run many times faster for
# this much of an optimiser; the testkit is built again for each, and used little.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
quickly='--config profile.dev.package.pget-testkit.opt-level=0'
schedule='patience silence seeded straggler throttle'
core='lingers simulation crowd download'
unnoticed=0 moved=0 check=no

# build CRATE TESTS
build() {
    (cd "$copy/tree" && cargo test $quickly --locked -p "$1" $(printf -- '--test %s ' $2) --no-run) > "$copy/log" 2>&1
}

# try CRATE TESTS: sets `result` if one of them notices the mutant.
try() {
    # Built apart, so that a mutant that does not compile counts as a mistake here.
    if ! build "$1" "$2"; then
        echo "$name: does not compile: see $copy/log" >&2
        exit 1
    fi
    cp "$copy/log" "$copy/built"
    for test in $2; do
        status=0
        program=$(sed -n "s|^ *Executable tests/$test[./].*(\(.*\))\$|\1|p" "$copy/built")
        (cd "$copy/tree/crates/$1" && timeout 120 "$program") > "$copy/log" 2>&1 || status=$?
        if [ "$status" = 124 ]; then
            result="$test: OUT OF TIME"
        elif [ "$status" != 0 ]; then
            why=$(grep -m1 -oE '^(seed [0-9]+: |assertion |[a-z ]*panicked).{0,100}' "$copy/log" || grep -m1 -A1 'panicked at' "$copy/log" | tail -1)
            result="$test: ${why:-it ends with status $status}"
        fi
        if [ "$status" != 0 ]; then return 0; fi
    done
}

# guard NAME FILE OLD NEW: both texts are taken as they stand; OLD must be there exactly once.
guard() {
    name=$1 file=crates/$2
    case "$name" in *"$only"*) ;; *) return 0 ;; esac
    if ! OLD=$3 NEW=$4 perl -0777 -pe '
        my $count = () = /\Q$ENV{OLD}\E/g;
        die "there $count times\n" if $count != 1;
        s/\Q$ENV{OLD}\E/$ENV{NEW}/' "$copy/tree/$file" > "$copy/mutant" 2> "$copy/why"; then
        echo "$name: what it guards has moved in $file: $(cat "$copy/why")" >&2
        moved=$((moved + 1))
        return 0
    fi
    if [ "$check" = yes ]; then return 0; fi
    cp "$copy/tree/$file" "$copy/right"
    cp "$copy/mutant" "$copy/tree/$file"
    result=UNNOTICED
    case "$file" in crates/pget-schedule/*) try pget-schedule "$schedule" ;; esac
    if [ "$result" = UNNOTICED ]; then try pget-core "$core"; fi
    if [ "$result" = UNNOTICED ]; then unnoticed=$((unnoticed + 1)); fi
    printf '%-34s %s\n' "$name" "$result"
    cp "$copy/right" "$copy/tree/$file"
}

all() {
    guard "range's start" pget-core/src/revision/accept.rs 'if reply.start != request.start {' 'if false {'
    guard "range's end" pget-core/src/revision/accept.rs '&& end > wanted' '&& end > wanted && false'
    guard "body within the object" pget-core/src/revision/accept.rs '&& end > total' '&& end > total && false'
    guard "size as before" pget-core/src/revision/accept.rs '(Some(was), Some(is)) if was != is =>' '(Some(was), Some(is)) if was != is && false =>'
    guard "size that was told" pget-core/src/revision/accept.rs 'let total = total.or(known);' ''
    guard "part is no end" pget-core/src/engine/events.rs 'if answer.total.is_none() && answer.body_end != request.end {' 'if false {'
    guard "revision as before" pget-core/src/revision/accept.rs 'Match::Changed(how) => Err(SourceError::fatal(ErrorKind::ObjectChanged, how)),' 'Match::Changed(_) => Ok(true),'
    guard "what later replies told" pget-core/src/revision/accept.rs 'known.revision.learn(&reply.revision);' ''
    guard "reply tells its revision" pget-core/src/revision/accept.rs 'if !same_revision(pinned, revision)? && pinned.revision.is_identity() {' 'if !same_revision(pinned, revision)? && false {'
    guard "range ignored later" pget-core/src/revision/accept.rs 'if reply.whole && request.end.is_some() && !is_all && pinned.ranges != Some(false) {' 'if false {'
    guard "attempts in flight" pget-schedule/src/schedule.rs 'if self.in_flight >= permits {' 'if self.in_flight > permits {'
    guard "window" pget-schedule/src/schedule.rs 'let in_window = self.open_chunks.len() < ' 'let in_window = self.open_chunks.len() <= '
    guard "pause after throttling" pget-schedule/src/schedule.rs 'let held_until = self.paused_until.max(self.throttle.next_at());' 'let held_until = self.throttle.next_at();'
    guard "pace" pget-schedule/src/schedule.rs 'let held_until = self.paused_until.max(self.throttle.next_at());' 'let held_until = self.paused_until;'
    guard "fewer after throttling" pget-schedule/src/throttle.rs 'self.level = (permits < self.most).then_some(level);' 'self.level = (permits > self.most).then_some(level);'
    guard "level refuted" pget-schedule/src/throttle.rs 'if self.level_trial.is_refuted(between, self.level.is_some()) {' 'if self.level_trial.is_refuted(between, self.level.is_some()) && false {'
    guard "rarer raises" pget-schedule/src/throttle/raise.rs 'self.after = rarer(self.after);' ''
    guard "retries end" pget-schedule/src/schedule/events.rs '.is_some_and(|retries| counted > retries)' '.is_some_and(|_| false)'
    guard "patience ends" pget-schedule/src/health.rs 'self.run?.since.checked_add(self.retry_timeout)' 'self.run?.since.checked_add(self.retry_timeout * 2)'
    guard "silence counts" pget-schedule/src/health.rs 'let since = quiet_since.max(self.progressed_at).min(now);' 'let since = now;'
    guard "silence ends with a byte" pget-schedule/src/health.rs 'quiet_since.max(self.progressed_at)' 'quiet_since'
    guard "silence is reported" pget-core/src/engine/attempts.rs 'state.schedule.was_quiet(id, now.saturating_sub(quiet_for));' ''
    guard "deadlines within patience" pget-core/src/options.rs 'deadline.min(most)' 'deadline'
    guard "bytes renew the patience" pget-schedule/src/health.rs 'pub(super) fn progressed(&mut self, at: Duration) {
        self.run = None;' 'pub(super) fn progressed(&mut self, at: Duration) {'
    guard "one probe for each pause" pget-schedule/src/schedule.rs 'let at = probe_at.max(self.paused_until).max(self.throttle.next_at());' 'let at = probe_at.min(now);'
    guard "trouble is noticed" pget-schedule/src/health.rs '.is_some_and(|since| in_flight == 0 || since + UNSURE <= now)' '.is_some_and(|_| false)'
    guard "silence is trouble" pget-schedule/src/schedule/silence.rs 'if now.saturating_sub(since) < self.silence().max(LEAST_OF_ALL) {' 'if true {'
    guard "silent connection is fenced" pget-schedule/src/schedule/silence.rs '.is_some_and(|asked| asked < self.stragglers.answered && now.saturating_sub(asked) >= silence)' '.is_some_and(|_| false)'
    guard "silent only if others are served" pget-schedule/src/schedule/silence.rs 'asked < self.stragglers.answered && now' 'now'
    guard "later after each fence" pget-schedule/src/schedule/silence.rs '* 4_u32.pow(open_chunk.fences.min(MOST_FENCES))' ''
    guard "oldest probe is left alone" pget-schedule/src/schedule/silence.rs '[_, next, ..] => (next, self.silence()),' '[oldest, ..] => (oldest, self.silence()),'
    guard "no permit for the silent" pget-schedule/src/schedule.rs 'self.in_flight - self.hung(now) >= self.throttle.permits()' 'self.in_flight >= self.throttle.permits()'
    guard "look is due at the end" pget-schedule/src/schedule/look.rs 'self.last_look_at().map_or(next, |last| next.min(last))' 'next'
    guard "range gives up" pget-schedule/src/schedule/patience.rs '            if at <= now {' '            if false {'
    guard "range waits for a permit" pget-schedule/src/schedule/attempt.rs 'open_chunk.failing_since.map(|since| since + waited)' 'open_chunk.failing_since'
    guard "consumed is progress" pget-schedule/src/schedule/events.rs 'if open_chunk.state != ChunkState::Filled {' 'if false {'
    guard "wrong bytes are believed" pget-schedule/src/schedule/events.rs 'how == AttemptEnd::Damaged || lasted >=' 'lasted >='
    guard "wrong replies are believed" pget-schedule/src/schedule/events.rs '|| lasted >= BELIEVED_AFTER' '|| false'
    guard "not believed at once" pget-schedule/src/schedule/events.rs '|| lasted >= BELIEVED_AFTER' '|| true'
    guard "wrong range is believed" pget-schedule/src/schedule/events.rs 'fruitless_for.max(wrong_for)' 'fruitless_for'
    guard "wrong replies that pass" pget-schedule/src/schedule/events.rs 'let lasted = if self.wrong_passes {' 'let lasted = if false {'
    guard "probe waits for its part" pget-schedule/src/health.rs 'trouble.probe_at = now + backoff.probe(now.saturating_sub(trouble.since));' 'trouble.probe_at = now;'
    guard "no probe beside a young one" pget-schedule/src/health.rs 'trouble.probe_at = now + pause.max(LEAST_SILENCE);' 'trouble.probe_at = now;'
    guard "nothing beside the lone one" pget-schedule/src/schedule.rs 'if self.is_asked_alone() {' 'if false {'
    guard "permits after an outage" pget-schedule/src/throttle.rs 'self.ramp = Some(2).filter(|&ramp| ramp < self.most);' ''
    guard "one refusal is no outage" pget-schedule/src/throttle.rs 'if !alone {' 'if true {'
    guard "level that does not help" pget-schedule/src/throttle.rs 'self.level_trial.is_struck_out();' ''
    guard "lost level is tried seldom" pget-schedule/src/throttle/level.rs 'Some(lost) => rarer(lost.after),' 'Some(_) => FIRST_RAISE,'
    guard "outage is no level" pget-schedule/src/throttle.rs 'self.lost_level = self.level.is_some_and(is_new);' 'self.lost_level = false;'
    guard "pace refuted" pget-schedule/src/throttle.rs 'if self.pace_trial.is_refuted(between, self.pace.is_some()) {' 'if self.pace_trial.is_refuted(between, self.pace.is_some()) && false {'
    guard "a level that does not help is a rate" pget-schedule/src/throttle.rs 'self.start_pace(took + took / 20);' 'let _ = took;'
    guard "late steps are taken back" pget-schedule/src/throttle.rs 'self.pace = Some(pace.step_back());' ''
    guard "tenth of the outage" pget-schedule/src/backoff.rs '(lasted / Self::PART)' '(lasted)'
    guard "fence that paid" pget-schedule/src/straggler.rs 'self.paid += u64::from(took * 2 <= owed);' 'self.paid += 1;'
    guard "lingering writer" pget-core/src/engine/driver.rs 'if goes_on && self.engine.lingers(id) {' 'if false {'
    guard "silent probe makes room" pget-schedule/src/schedule/look.rs 'self.silent_probe(now)?' 'None?'
    guard "refusal asked again" pget-schedule/src/schedule/events.rs 'if how == AttemptEnd::Refused && open_chunk.alone {' 'if how == AttemptEnd::Refused {'
    guard "refusal alone is believed" pget-schedule/src/schedule/events.rs 'if how == AttemptEnd::Refused && open_chunk.alone {' 'if false {'
    guard "lone refusal is confirmed" pget-schedule/src/schedule/events.rs 'let Some(&pause) = CONFIRMED_AFTER.get(' 'let Some(&pause) = CONFIRMED_AFTER[..0].get('
    guard "confirmed after a pause" pget-schedule/src/schedule/events.rs 'return Ok(now + pause);' 'return Ok(now + pause * 0);'
    guard "confirmed few times" pget-schedule/src/schedule/events.rs 'open_chunk.refused_alone += 1;' ''
    guard "refusal of all is final" pget-schedule/src/schedule/events.rs 'let was_served = self.phase != Phase::Probe &&' 'let was_served ='
    guard "stream without identity" pget-schedule/src/schedule/events.rs '|| !self.may_resume() && position > self.plan.start()' '|| !self.may_resume() && position > u64::MAX - 1'
    guard "identity for ranges" pget-schedule/src/schedule/events.rs 'Phase::Probe if !identity && self.plan.chunks()' 'Phase::Probe if false && self.plan.chunks()'
    guard "one writer a slot" pget-core/src/memory/slot.rs '.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()' '.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok() || true'
    guard "fence waits for the writer" pget-core/src/engine/fence.rs 'if flight.slot.is_claimed() {' 'if false {'
    guard "fences of a chunk" pget-schedule/src/schedule/look.rs '&& open_chunk.fences < MOST_OF_A_CHUNK' ''
    guard "promises double" pget-schedule/src/schedule/look.rs 'MARGIN << open_chunk.fences.saturating_sub(1)' 'MARGIN'
    guard "two unanswered fences" pget-schedule/src/schedule/look.rs 'open_chunk.fences < MOST_UNANSWERED' 'true'
    guard "fences of a download" pget-schedule/src/schedule/look.rs 'self.stragglers.fences.saturating_sub(self.stragglers.paid * 2)' '0 * self.stragglers.paid'
    guard "far slower" pget-schedule/src/schedule/look.rs 'rate.saturating_mul(FAR) <= norm.rate &&' ''
    guard "no fence while it speeds up" pget-schedule/src/schedule/look.rs 'norm.rate && !track.speeds_up()' 'norm.rate'
    guard "stall deadline" pget-core/src/engine/watchdog.rs '(deadlines.stall, "no progress")' '(Duration::MAX, "no progress")'
    guard "first-byte deadline" pget-core/src/engine/watchdog.rs '(deadlines.first_byte, "no answer")' '(Duration::MAX, "no answer")'
    guard "answer with no byte" pget-core/src/revision/accept.rs 'if reply.length == Some(0) &&' 'if false &&'
    guard "checksum as before" pget-core/src/revision/accept.rs 'if was.contradicts(is) =>' 'if was.contradicts(is) && false =>'
    guard "offset within the object" pget-core/src/revision/accept.rs '&& request.start > total' '&& request.start > total && false'
    guard "skips to the range" pget-core/src/revision/accept.rs 'skip: request.start,' 'skip: 0,'
    guard "body ends where it said" pget-core/src/memory/writer.rs 'Some(Accepted { end: Some(end), .. }) => end.min(self.slot.end()),' 'Some(Accepted { end: Some(_), .. }) => self.slot.end(),'
    guard "withheld until released" pget-core/src/memory/writer.rs 'self.at += count;
        if self.withheld_from.is_some() {' 'self.at += count;
        if false {'
    guard "goes on at the watermark" pget-core/src/memory/writer.rs 'let at = slot.filled();' 'let at = 0;'
    guard "slot given back" pget-core/src/memory/slot.rs 'self.claimed.store(false, Ordering::SeqCst);' ''
    guard "memory given back" pget-core/src/budget.rs 'drop(permit.split(surplus));' 'std::mem::forget(permit.split(surplus));'
    guard "connections" pget-core/src/budget.rs 'Arc::clone(&self.permits().connections).acquire_owned().await.ok()' 'Arc::clone(&self.permits().connections).try_acquire_owned().ok()'
    guard "short body goes on" pget-schedule/src/schedule/events.rs 'if position >= end {
            return self.filled(' 'if position >= end || how == AttemptEnd::Complete {
            return self.filled('
    guard "longest pause" pget-schedule/src/health.rs 'after.min(left - left / 20)' 'after'
    guard "late bytes of a stream" pget-core/src/engine/attempts.rs 'if start > state.schedule.plan().start() && !state.schedule.may_resume() {' 'if false {'
    guard "later attempts know the revision" pget-core/src/engine/attempts.rs 'pinned: state.known.revision().cloned(),' 'pinned: state.known.revision().filter(|_| state.known.first().is_none()).cloned(),'
    guard "first outcome stays" pget-core/src/engine/state.rs 'self.finish_unless(outcome, |state| state.outcome.is_some());' 'self.finish_unless(outcome, |_| false);'
    guard "order of the ring" pget-core/src/engine/state.rs '.front()
                .map_or(AtCursor::Nothing' '.back()
                .map_or(AtCursor::Nothing'
    guard "consumer is woken at the end" pget-core/src/engine/state.rs 'self.reader_waker.wake();
        self.window_waker.wake();' 'self.window_waker.wake();'
    guard "room in the window is told" pget-core/src/engine/state.rs 'self.driver.notify_one();
        self.window_waker.wake();
    }

    /// Wakes those who wait for the cursor' 'self.driver.notify_one();
    }

    /// Wakes those who wait for the cursor'
    guard "consumption is told" pget-core/src/engine/state.rs 'self.cursor_moved();
        self.driver.notify_one();' 'self.cursor_moved();'
    guard "consumer hears of bytes" pget-core/src/engine/events.rs 'if slot.chunk() == self.cursor.chunk() && !gather(self, range.end - range.start) {' 'if false {'
    guard "checksum in order" pget-core/src/delivery/reader.rs '.compared(check.finish())' '.compared(check.finish().or(Ok(())))'
    guard "last lease is held back" pget-core/src/delivery/reader.rs 'if total.is_some() && self.withheld.is_none() {' 'if self.withheld.is_none() {'
    guard "checksum of what is placed" pget-core/src/delivery/verified.rs 'self.compared(sums.finish(end))' 'self.compared(sums.finish(end).or(Ok(())))'
    guard "required checksum" pget-core/src/delivery/verified.rs 'check.outcome = why;
                if self.wish == Verify::Require {' 'check.outcome = why;
                if false {'
    guard "cursor waits for no memory" pget-core/src/engine/driver.rs '.try_reserve(bytes, at_cursor)' '.try_reserve(bytes, false)'
    guard "stream waits for no memory" pget-core/src/engine/events.rs 'self.budget.try_reserve(bytes, at_cursor)' 'self.budget.try_reserve(bytes, false)'
    guard "memory within the budget" pget-core/src/engine/driver.rs '.try_reserve(bytes, at_cursor)' '.try_reserve(bytes, true)'
    guard "cursor waits for no connection" pget-core/src/engine/executor.rs '() = engine.cursor.reaches(chunk) => None,' '() = pending() => None,'
}

if [ "${1-}" = --check ]; then
    check=yes
    set --
fi
if [ $# -eq 0 ]; then set -- ''; fi
for only in "$@"; do all; done
exit $((unnoticed + moved > 0))

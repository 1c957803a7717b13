#!/usr/bin/env bash
# The unit level on another day, or in another place: what depends on today's date, on the time zone
# or on the user's locale fails here.
#
#   scripts/unit-under.sh ahead [pytest's arguments...]       the clock a year and a half ahead
#   scripts/unit-under.sh elsewhere [pytest's arguments...]   Taiwan's time zone and locale
#   scripts/unit-under.sh ahead elsewhere ...                 both in one run
#
# DAY='2028-02-29 23:59:30' is the moment at which `ahead` begins, in the time zone of TZ.
# tests/unit/test_surroundings.py fails where the clock is not ahead, or the place not another.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A developer's machine need not have it: there the tests run all the same, here and now. In CI that
# would be another run than the one that was asked for.
lacks() {
    local what=left\ out
    case ${CI:-} in
    1 | true | yes) what=error ;;
    esac
    echo "$what: $1; \`scripts/setup.sh tools\` installs what is needed" >&2
    [ "$what" != error ] || exit 1
}

ahead() {
    # $LIB is for the dynamic linker. A child's child inherits all of this, as it would a real clock.
    local library="/usr/\$LIB/faketime/libfaketime.so.1" now before off
    before=$(date +%s)
    now=$(date -d "${DAY:-now + 18 months}" +%s)
    export LABCTL_TESTS_AHEAD=$((now - before))
    # Only the clock on the wall: a wait is as long as ever, and a file as old as it is.
    FAKETIME=$(printf '%+ds' "$LABCTL_TESTS_AHEAD")
    export FAKETIME FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
    # Python's interpreter lock: without this its threads would spin where they wait for it (0.9.10).
    export FAKETIME_WAIT_MS=5
    export PYTHONPATH=$PWD/tests/ahead${PYTHONPATH:+:$PYTHONPATH}
    off=$(($(LD_PRELOAD=$library date +%s 2>/dev/null) - now))
    if [ "${off#-}" -ge 60 ]; then
        lacks "no faketime is here"
        unset FAKETIME LABCTL_TESTS_AHEAD
        return
    fi
    export LD_PRELOAD=$library
}

elsewhere() {
    local name=zh_TW.UTF-8 locales=$PWD/.venv/locale
    if [ ! -e "$locales/$name" ]; then
        mkdir -p "$locales"
        if ! localedef -i zh_TW -f UTF-8 "$locales/$name" 2>/dev/null; then
            lacks "localedef cannot make the locale $name here"
            return
        fi
    fi
    export LABCTL_TESTS_LOCALE=$name LOCPATH=$locales TZ=Asia/Taipei
    unset LC_MESSAGES LANGUAGE LABCTL_LANG
    export LANG=$name LC_ALL=$name
}

case ${1:-} in
ahead | elsewhere) ;;
*) printf 'usage: unit-under.sh ahead|elsewhere [pytest arguments...]\n' >&2 && exit 2 ;;
esac
while [ "${1:-}" = ahead ] || [ "${1:-}" = elsewhere ]; do
    "$1"
    shift
done
exec .venv/bin/pytest tests/unit --numprocesses auto "$@"

#!/bin/sh
# The terminal that a learner and the teacher share: runs on the learner's machine as the user whom
# both log in as, in the teacher's terminal.
#
#   MODE          type, or watch: read-only, and the terminal keeps the learner's size
#   ARRIVAL       what the learner is told when the teacher comes, and sees as long as they stay
#   DEPARTURE     what the learner is told when they have left
#   INVITATION    what the learner is told who works in no tmux, with the command that leads there
#   HOW_TO_LEAVE  what the teacher is told
set -eu
mode=$1 arrival=$2 departure=$3 invitation=$4 how_to_leave=$5
mine=$(tty)

# The session that was worked in last, rather one that is on somebody's screen.
latest() {
    tmux list-sessions -F '#{session_attached} #{session_activity} #{session_id}' 2>/dev/null |
        sort -k1,1nr -k2,2nr | head -n 1 | cut -d ' ' -f 3
}

# To all who see the session, in their status line.
tell() {
    for client in $(tmux list-clients -t "$session" -F '#{client_tty}'); do
        tmux display-message -c "$client" -d 10000 "$1"
    done
}

# To each terminal of this user that is not inside tmux. One that is stopped (Ctrl-S) holds nobody up.
call() {
    shown=$(tmux list-panes -a -F '#{pane_tty}'; tmux list-clients -F '#{client_tty}'; echo "$mine")
    find /dev/pts -name '[0-9]*' -user "$(id -u)" | while read -r terminal; do
        if ! printf '%s\n' "$shown" | grep -qxF "$terminal"; then
            printf '\r\n\a*** %s\r\n' "$1" >"$terminal" 2>/dev/null &
        fi
    done
}

leave() {
    trap - EXIT HUP INT TERM
    # The learner may have ended the session.
    if tmux has-session -t "$session" 2>/dev/null; then
        if [ -n "$status" ]; then
            tmux set-option -t "$session" status-right "$status"
        else
            tmux set-option -u -t "$session" status-right
        fi
        tell "$departure"
    fi
}

session=$(latest)
if [ -z "$session" ]; then
    tmux new-session -d -s labctl
    session=$(latest)
fi
if [ -z "$(tmux list-clients -t "$session")" ]; then
    call "$invitation"
fi
status=$(tmux show-options -v -t "$session" status-right)
trap leave EXIT
trap 'exit 129' HUP INT TERM
tell "$arrival"
tmux set-option -t "$session" status-right " $arrival "
echo "$how_to_leave"
if [ "$mode" = watch ]; then
    tmux -u attach-session -f read-only,ignore-size -t "$session"
else
    tmux -u attach-session -t "$session"
fi

#!/bin/sh
# What the engine ssh does on a learner's machine, as the user who logs in there:
#
#   look CLASS                           print the label that the machine carries
#   take CLASS LEARNER TEACHER ENDS KEY...
#                                        label it, and let these lines of authorized_keys in
#   end CLASS ENDS                       put another end of the class into the label
#   leave CLASS                          remove that label and those lines, and nothing else
#
# TEACHER names the teacher's key, so that another laptop's is noticed. The label is the file
# ~/.labctl-class/CLASS; each line of authorized_keys ends in labctl-class=CLASS.
set -eu
umask 077
verb=$1 class=$2
shift 2
labels=$HOME/.labctl-class
label=$labels/$class
keys=$HOME/.ssh/authorized_keys

look() {
    # Whatever the machine's login scripts print comes before this line.
    echo "labctl-class begin"
    if [ -f "$label" ]; then cat "$label"; fi
    echo "labctl-class end"
}

# Replace authorized_keys in one step: with half of it nobody could log in any more.
replace_keys() {
    mv "$file.labctl-class" "$file"
}

take() {
    learner=$1 teacher=$2 ends=$3
    shift 3
    mkdir -p "$labels"
    made=
    if [ ! -d "$HOME/.ssh" ]; then made="directory file"; elif [ ! -e "$keys" ]; then made="file"; fi
    # First the label, last that it is complete: a `take` that is killed is found, and done again.
    if [ ! -f "$label" ]; then
        printf '%s\n' "learner=$learner" "teacher=$teacher" "made=$made" \
            "ends=$ends" >"$label.new"
        mv "$label.new" "$label"
    fi
    mkdir -p "$HOME/.ssh"
    if [ ! -e "$keys" ]; then : >"$keys"; fi
    file=$(readlink -f "$keys")
    cp -p "$file" "$file.labctl-class"
    if [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file.labctl-class"; fi
    for line in "$@"; do
        grep -qxF -e "$line" "$file" || printf '%s\n' "$line" >>"$file.labctl-class"
    done
    replace_keys
    grep -qx complete "$label" || echo complete >>"$label"
}

end() {
    grep -v '^ends=' "$label" >"$label.new"
    printf 'ends=%s\n' "$1" >>"$label.new"
    mv "$label.new" "$label"
}

leave() {
    made=$(sed -n 's/^made=//p' "$label" 2>/dev/null) || made=
    if [ -f "$keys" ]; then
        file=$(readlink -f "$keys")
        cp -p "$file" "$file.labctl-class"
        ours="^ssh-ed25519 [A-Za-z0-9+/=]+ labctl-class=$class( labctl-learner=[a-z0-9-]+)?\$"
        grep -vE -e "$ours" "$file" >"$file.labctl-class" || [ $? -eq 1 ]
        replace_keys
        case $made in *file*) if [ ! -s "$file" ]; then rm -f "$keys"; fi ;; esac
    fi
    case $made in *directory*) rmdir "$HOME/.ssh" 2>/dev/null || : ;; esac
    rm -f "$label" "$label.new"
    rmdir "$labels" 2>/dev/null || :
}

case $verb in
look) look ;;
take) take "$@" ;;
end) end "$@" ;;
leave) leave ;;
*) exit 2 ;;
esac

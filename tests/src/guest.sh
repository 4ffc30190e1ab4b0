# What scripts in the guest use (bpfman_tests::vm::HELPERS).
set -eu
# meanwhile COMMAND…: runs it beside the script; its process is $!. The shell that started it ends it with itself: a job
# that is left holds the pipe of `$(…)` or `… |`, and its reader waits until the machine is killed.
meanwhile() {
    "$@" &
    # A shell within a shell knows the jobs of the other, which are not its own.
    read -r shell _ </proc/self/stat
    [ "${shell_of_jobs:-}" = "$shell" ] || jobs=
    shell_of_jobs=$shell jobs="$jobs $!"
    trap 'for job in $jobs; do end "$job"; done' EXIT
}
# end PROCESS: kills it and all that it started; stopped first, it starts no more
end() {
    kill -STOP "$1" 2>/dev/null || return 0
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do end "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}
# eventually COMMAND…: waits until it succeeds, and fails when it does not within a minute
eventually() {
    patience_ends=$(($(date +%s) + ${patience:-60}))
    until "$@"; do
        [ "$(date +%s)" -lt "$patience_ends" ] || { echo "waited in vain: $*" >&2; return 1; }
    done
}
field() { sed -n "s/^ *$1: *\([^ ]*\).*/\1/p" | head -n 1; }
# load FILE TYPE:NAME [OPTION]…: prints the id
load() {
    file=$1 program=$2
    shift 2
    bpfman load file --path "$file" --programs "$program" "$@" >/tmp/load || { cat /tmp/load; return 1; }
    field "Program ID" </tmp/load
}
# attach ID TYPE [OPTION]…: prints the id of the link
attach() {
    bpfman attach "$@" >/tmp/attach || { cat /tmp/attach; return 1; }
    # of a table, or of JSON
    sed -n 's/^ *\(Link ID\|"link_id"\): *\([0-9]*\).*/\2/p' /tmp/attach | head -n 1
}
# refused COMMAND…: runs what has to end with 1, and prints its message in one line
refused() {
    status=0
    "$@" >/tmp/out 2>/tmp/err || status=$?
    [ "$status" = 1 ] || { echo "exit status $status: $*"; cat /tmp/out /tmp/err; return 1; }
    tr '\n' ' ' </tmp/err
}
# value PROGRAM MAP [KEY]: the number in an entry of a program's map, the first by default
value() {
    bpftool -j map lookup pinned "/run/bpfman/fs/maps/$1/$2" key "${3:-0}" 0 0 0 |
        sed 's/.*"formatted":{[^}]*"value":\([0-9]*\).*/\1/'
}
# what is left behind, said line by line; nothing is what it has to be
left_behind() {
    bpfman list programs | tail -n +2
    bpfman list links | tail -n +2
    find /run/bpfman/fs -type f ! -name '*.debug'
    if [ -d /sys/class/net/veth0 ]; then bpftool net list dev veth0 | grep 'veth0(' || true; fi
    bpftool prog list
}
# wire: two ends of a link, veth0 (10.1.0.1) and, in the namespace peer, veth1 (10.1.0.2)
wire() {
    ip netns add peer
    ip link add veth0 type veth peer name veth1 netns peer
    ip addr add 10.1.0.1/24 dev veth0
    ip link set veth0 up
    ip -n peer addr add 10.1.0.2/24 dev veth1
    ip -n peer link set veth1 up
}
# veth0_stays_known: what finds neighbours may be dropped from then on
veth0_stays_known() {
    ip -n peer neigh replace 10.1.0.1 lladdr "$(cat /sys/class/net/veth0/address)" dev veth1 nud permanent
}
ping_from_peer() { ip netns exec peer ping -q -A "$@" 10.1.0.1; }
# traffic: what is on veth0, all of it
traffic() { tc qdisc show dev veth0; tc filter show dev veth0 ingress; tc filter show dev veth0 egress; }
peer_runs() { [ -n "$(ip netns pids peer)" ]; }
no_veth0() { ! ip link show veth0 >/dev/null 2>&1; }
# ping_until FILE: pings from the peer until the file is there, and prints how many went and how many came back. In
# hundreds, each of which waits for its last answer: one that is on its way is not a lost one.
ping_until() {
    while [ ! -e "$1" ]; do ping_from_peer -c 100 -W 10 || true; done |
        awk '/packets transmitted/ { sent += $1; received += $4 } END { print sent, received }'
}

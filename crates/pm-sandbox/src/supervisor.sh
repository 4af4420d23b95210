# Owns a server's directory: makes it, runs the server, and at the end of standard input, which
# the owner's death brings about too, stops the server and removes the directory.
#
# Arguments: the directory to make ours in; the data directory, empty for one in ours; the
# server's command. Standard input: a port a line, each starts the server, which must not run.
# Standard output: the path of our directory, then the server's process id for each start.
# Every process of the server has our FIFO "alive" open for writing, and so does whoever else works
# in the directory: who reads it sees its end when they are gone.

base=$1 data=$2 server=
shift 2
umask 077
# The owner may die while we write to it.
trap '' PIPE

finish() {
    trap '' HUP INT TERM
    [ -z "$server" ] || kill -INT "$server"
    # Opening a FIFO for reading waits for a writer, so for a moment we are one.
    exec 3<>"$dir/alive" 4<"$dir/alive" 3>&-
    cat <&4 >/dev/null &
    gone=$!
    (
        trap 'kill -KILL "$nap"; wait "$nap"; exit' USR1
        for victim in "-QUIT $server" "-KILL $server" "-KILL $gone"; do
            sleep 8 &
            nap=$!
            wait "$nap"
            # shellcheck disable=SC2086
            kill $victim
        done
    ) </dev/null >/dev/null 2>&1 &
    timer=$!
    wait "$gone"
    kill -USR1 "$timer"
    wait "$timer"
    # Only a killed server leaves this file, and the shared memory that its line 7 names.
    if [ -n "$server" ] && [ "$(sed -n 1p "$data/postmaster.pid")" = "$server" ]; then
        ipcrm -m "$(sed -n '7s/.* //p' "$data/postmaster.pid")"
    fi
    rm -rf "$dir"
}

dir=$(mktemp -d "$base/pm-XXXXXX" 2>&1) || dir=$(mktemp -d /tmp/pm-XXXXXX 2>&1) || {
    echo "$dir"
    exit 1
}
: "${data:=$dir/data}"
trap finish EXIT
trap 'exit 1' HUP INT TERM
mkfifo "$dir/alive" || exit 1
echo "$dir"

while read -r port; do
    [ -z "$server" ] || wait "$server"
    exec 3<>"$dir/alive"
    "$@" -D "$data" -k "$dir" -p "$port" </dev/null >/dev/null 2>>"$dir/log" &
    server=$!
    exec 3>&-
    echo "$server"
done

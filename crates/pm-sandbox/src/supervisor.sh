# Creates a directory for a server and runs the server in it. When standard input is closed, which
# also happens when the parent process dies, stops the server and removes the directory.
#
# Arguments: the directory in which to create ours; the data directory, empty for one inside ours;
# the server's command. Standard input: one port per line, each of which starts the server; the
# server must not be running then. Standard output: the path of our directory, then the server's
# process id for each start. Every process of the server has our FIFO "alive" open for writing, and
# so has any other process that works in the directory. A reader of the FIFO gets the end of file
# when they have all ended.

base=$1 data=$2 server=
shift 2
umask 077
# The parent may die while we write to it.
trap '' PIPE

finish() {
    trap '' HUP INT TERM
    [ -z "$server" ] || kill -INT "$server"
    # Opening a FIFO for reading waits for a writer, so open it for writing for a moment.
    exec 3<>"$dir/alive" 4<"$dir/alive" 3>&-
    cat <&4 >/dev/null &
    watcher=$!
    (
        trap 'kill -KILL "$pause"; wait "$pause"; exit' USR1
        for arguments in "-QUIT $server" "-KILL $server" "-KILL $watcher"; do
            sleep 8 &
            pause=$!
            wait "$pause"
            # shellcheck disable=SC2086
            kill $arguments
        done
    ) </dev/null >/dev/null 2>&1 &
    timer=$!
    wait "$watcher"
    kill -USR1 "$timer"
    wait "$timer"
    # Only a killed server leaves this file, and the shared memory whose id is on its line 7.
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

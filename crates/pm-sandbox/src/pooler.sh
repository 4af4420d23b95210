# Runs PgBouncer in its own directory until standard input is closed, which also happens when the parent process dies.
#
# Arguments: the program; its settings, in which {dir} is replaced by the directory. Standard output: the directory.

program=$1 settings=$2 pooler=
umask 077
trap '' PIPE HUP INT TERM

dir=$(mktemp -d "${TMPDIR:-/tmp}/pm-XXXXXX") || dir=$(mktemp -d /tmp/pm-XXXXXX) || exit 1
finish() {
    [ -z "$pooler" ] || kill "$pooler"
    wait
    rm -rf "$dir"
}
trap finish EXIT

printf '%s\n' "$settings" | sed "s#{dir}#$dir#" >"$dir/pgbouncer.ini"
echo '"postgres" ""' >"$dir/users"
"$program" "$dir/pgbouncer.ini" </dev/null >/dev/null 2>>"$dir/log" &
pooler=$!
echo "$dir"
cat >/dev/null

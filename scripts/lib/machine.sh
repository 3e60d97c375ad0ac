# shellcheck shell=bash disable=SC2034,SC2154
# What box.sh and vm.sh have in common: their arguments, and the unit that runs the command in a machine that was booted for it. What is
# set here they read, and `ended` the other way round.

# Reads the arguments into limit, boots, shared, root, over and command. Needs `usage`, which prints the help.
machine_arguments() {
  limit=600 boots=1 shared=() root=/ over='' command=()
  while [[ $# -gt 0 ]]; do
    case $1 in
      --timeout) limit=$2; shift 2 ;;
      --boots) boots=$2; shift 2 ;;
      --share) shared+=("$(realpath "$2")"); shift 2 ;;
      --root) root=$(realpath "$2"); shift 2 ;;
      --over) over=$(realpath "$2"); shift 2 ;;
      -h | --help) usage; exit 0 ;;
      --) shift; break ;;
      *) echo "${0##*/}: unknown argument $1; see --help" >&2; exit 64 ;;
    esac
  done
  [[ $# -gt 0 ]] || fail "which command?"
  command=("$@")
}

# Makes the machine whose files are below $1 run the command when it has booted. In it, /run/box is $2.
machine_unit() {
  local units=$1/etc/systemd/system
  printf '%q ' "${command[@]}" >"$2/command"
  mkdir -p "$units/multi-user.target.wants"
  cat >"$2/unit" <<UNIT
[Unit]
Description=What this machine is for
After=multi-user.target
SuccessAction=@END@
FailureAction=@FAIL@
[Service]
Type=oneshot
Environment="PATH=$PATH" HOME=/root
ExecStartPre=/bin/bash /run/box/prepare
EnvironmentFile=/run/box/environment
ExecStart=/bin/bash -c '. /run/box/command >/run/box/output 2>&1; echo "\$?" >/run/box/result; sync'
UNIT
  ln -s ../box-command.service "$units/multi-user.target.wants/"
}

# Has the unit end the machine this way: for the number of a boot, below the same two directories.
machine_next_boot() { # ROOT TALK NUMBER ORDERLY AT-ONCE
  local end=$4
  # After the last, nobody looks at what is left.
  [[ $3 -lt $boots ]] || end=$5
  sed "s/@END@/$end/; s/@FAIL@/$5/" "$2/unit" >"$1/etc/systemd/system/box-command.service"
  echo "WINDLASS_BOOT=$3" >"$2/environment"
  rm -f "$2/result"
}

# Boots the machine as often as it was asked for, and exits as the command has. `boot NUMBER` is true when the command has come to its
# end, and sets `ended` to the machine's own exit code. $1 is where the command's result is found, $2 the console.
machine_boots() {
  local number
  for ((number = 1; number < boots; number++)); do
    # One that was cut off has no result, and did not have to have one.
    ! boot "$number" || [[ $(<"$1/result") == 0 ]] || exit "$(<"$1/result")"
    [[ $ended -eq 0 ]] || break
  done
  if [[ $ended -eq 0 ]] && boot "$boots"; then exit "$(<"$1/result")"; fi
  tail -n 20 "$2" >&2
  [[ $ended -ne 124 ]] || { echo "${0##*/}: the command did not end within $limit s" >&2; exit 124; }
  fail "it ended without a result; its console's last words are above"
}

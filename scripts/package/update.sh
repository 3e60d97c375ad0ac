# shellcheck shell=sh
# What the package of `windlass update` does beside placing files; WHEN is one of the words below. The packages' own scripts call it.

windlass_update() { # WHEN
  if [ "$1" = purged ]; then
    rm -rf --one-file-system /var/lib/windlass-update || true
    # The daemon's feed has its token in the same place.
    [ -e /etc/windlass/windlass.toml ] || rm -f /etc/windlass/feed-token
    rmdir /etc/windlass 2>/dev/null || true
  fi
  [ -d /run/systemd/system ] || return 0
  case $1 in
    installed) systemctl daemon-reload ;;
    upgraded)
      systemctl daemon-reload
      # An update that is under way is taken up again. What does not run stays as it is.
      systemctl try-restart windlass-update-watch.service || true
      ;;
    removing) systemctl disable --now --quiet windlass-update.timer windlass-update-watch.service || true ;;
    removed) systemctl daemon-reload ;;
  esac
}

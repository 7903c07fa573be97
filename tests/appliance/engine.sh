#!/usr/bin/env bash
# A real Docker engine with Compose v2 and BuildKit on a Debian machine that has none, a base image where none can be
# pulled, and a browser for the report's page. Idempotent; needs root. Used by the appliance test and CI; a GPU server has its
# own engine.
set -euo pipefail

base=python:3.11-slim-bookworm
plugins=/usr/libexec/docker/cli-plugins
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive

say() { echo "engine: $*"; }

install_engine() {
    command -v dockerd >/dev/null && command -v debootstrap >/dev/null && return
    say "installing docker.io and debootstrap"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends docker.io debootstrap iptables >/dev/null
}

install_browser() {
    command -v chromium >/dev/null && return
    say "installing chromium"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium fonts-nanum >/dev/null
}

# Debian bookworm has no Compose v2; trixie's packages hold single static programs.
install_plugin() { # PACKAGE PROGRAM
    "$plugins/$2" docker-cli-plugin-metadata >/dev/null 2>&1 && return
    say "installing $2"
    mkdir -p "$plugins" "$work/apt/lists/partial" "$work/apt/state"
    sed 's/bookworm/trixie/g' /etc/apt/sources.list.d/debian.sources >"$work/apt/trixie.sources" 2>/dev/null ||
        sed 's/bookworm/trixie/g' /etc/apt/sources.list >"$work/apt/trixie.list"
    local options=(-o "Dir::Etc::sourcelist=$(ls "$work"/apt/trixie.*)" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/apt/lists")
    [ -e "$work/apt/updated" ] || { apt-get "${options[@]}" update -qq && touch "$work/apt/updated"; }
    (cd "$work" && apt-get "${options[@]}" download -qq "$1")
    dpkg -x "$work/$1"_*.deb "$work/$1"
    install -m 755 "$(find "$work/$1" -path "*/cli-plugins/$2" -type f)" "$plugins/$2"
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    say "starting dockerd"
    mkdir -p /var/log
    setsid dockerd >/var/log/whetstone-dockerd.log 2>&1 </dev/null &
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 1
    done
    tail -n 20 /var/log/whetstone-dockerd.log >&2
    say "dockerd did not start" >&2
    exit 1
}

make_base_image() {
    docker image inspect "$base" >/dev/null 2>&1 && return
    docker pull -q "$base" >/dev/null 2>&1 && return
    say "no $base to pull: making a stand-in by debootstrap"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip bookworm "$work/root" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    # The machine's certificates and package sources: a build reaches what the machine reaches.
    cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
    cp -a /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d "$work/root/etc/apt/" 2>/dev/null || true
    ln -sf python3 "$work/root/usr/bin/python"
    rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
    mkdir -p "$work/root/var/cache/apt/archives/partial" "$work/root/var/lib/apt/lists/partial"
    tar -C "$work/root" -c . | docker import -c 'CMD ["python3"]' - "$base" >/dev/null
}

install_engine
install_browser
install_plugin docker-compose docker-compose
install_plugin docker-buildx docker-buildx
start_engine
make_base_image
say "$(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short), $base is there"

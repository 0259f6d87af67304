#!/bin/sh
# Environments of the projects whose coders are read, one each, because their dependencies exclude each other.
#   scripts/install_sae_peers.sh [saelens] [sparsify] [dictionary_learning]        (all of them where none is named)
# Then: pytest tests/sae_peers
# torch comes first and is pinned in all: without the pin, one of them draws another build of it.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- saelens sparsify dictionary_learning
for name in "$@"; do
    case $name in
        saelens | sparsify | dictionary_learning) ;;
        *) echo "no peer is called $name: wanted saelens, sparsify or dictionary_learning" >&2; exit 2 ;;
    esac
done
root=${SAE_PEERS:-build/sae-peers}
python=${PYTHON:-python3}
mkdir -p "$root"
pins="$(cd "$root" && pwd)/constraints.txt"
echo "torch==2.13.0" > "$pins"

install() {
    "$root/$1/bin/pip" install --quiet --disable-pip-version-check --constraint "$pins" $2
}

for name in "$@"; do
    "$python" -m venv "$root/$name"
    install "$name" torch
    case $name in
        saelens) install "$name" "sae-lens==6.54.12" ;;
        sparsify) install "$name" "eai-sparsify==1.3.3" ;;
        dictionary_learning)
            # nnsight 0.3.7 asks for torchvision, which neither coders nor their files need.
            install "$name" "--no-deps dictionary-learning==0.1.0 nnsight==0.3.7"
            install "$name" "einops tqdm datasets pandas zstandard transformers wandb accelerate diffusers pydantic protobuf sentencepiece python-socketio[client]"
            ;;
    esac
    echo "$root/$name: ready"
done

#!/bin/sh
# Send what ffmpeg makes: sh ffmpeg_rig.sh ws://127.0.0.1:8765
# For a camera, put `-f v4l2 -i /dev/video0` in the place of `-re -f lavfi -i testsrc2=...`.
ffmpeg -loglevel error -re -f lavfi -i testsrc2=size=640x480:rate=15 -t 1 -f mjpeg - |
  cfw send "$1" - --user ada --session s-1

"""Send what OpenCV reads: python opencv_rig.py ws://127.0.0.1:8765 [FILE]"""

import sys

import cv2

from cfw.client import open_capture_sync

url, source = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else 0
camera = cv2.VideoCapture(source)
camera.set(cv2.CAP_PROP_FRAME_WIDTH, 640)
camera.set(cv2.CAP_PROP_FRAME_HEIGHT, 480)

with open_capture_sync(
    url,
    user_id="ada",
    session_id="s-1",
    # Not what was asked for, but what the camera gives.
    width=int(camera.get(cv2.CAP_PROP_FRAME_WIDTH)),
    height=int(camera.get(cv2.CAP_PROP_FRAME_HEIGHT)),
    fps=15,
    color="bgr",  # as OpenCV has it
) as capture:
    while capture.frames_sent < 150:
        ok, picture = camera.read()
        if not ok:
            break
        capture.send_frame(picture)

camera.release()
print(capture.receipt)

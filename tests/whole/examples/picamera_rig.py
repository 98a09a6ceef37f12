"""Send what a Raspberry Pi's camera sees: python picamera_rig.py ws://127.0.0.1:8765"""

import sys

from picamera2 import Picamera2

from cfw.client import open_capture_sync

camera = Picamera2()
camera.configure(
    camera.create_video_configuration(
        main={"size": (640, 480), "format": "RGB888"}, controls={"FrameRate": 15}
    )
)
camera.start()

with open_capture_sync(
    sys.argv[1],
    user_id="ada",
    session_id="s-1",
    width=640,
    height=480,
    fps=15,
    color="bgr",  # the order in memory of what picamera2 calls RGB888
) as capture:
    while capture.frames_sent < 150:
        capture.send_frame(camera.capture_array())

camera.stop()
print(capture.receipt)

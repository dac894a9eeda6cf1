"""A mobile base in MuJoCo: differential drive, surround cameras, LiDARs, radar, IMU; the simulator ``mobile_base``.

Import the modules that are needed: `config` works without MuJoCo.
"""

"""Sensor encoders: LiDAR, radar, IMU, wrench and effort → tokens and their validity. Tensors in, tensors out."""

from vla_ros.networks.sensors.pillars import PillarMap, Pillars
from vla_ros.networks.sensors.pointnet2 import PointNet2
from vla_ros.networks.sensors.radar import RadarPoints, RangeDoppler
from vla_ros.networks.sensors.range_image import RangeImage
from vla_ros.networks.sensors.raster import Raster
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, build_sensor_encoder
from vla_ros.networks.sensors.window import ConvWindow, LstmWindow, VectorToken

__all__ = [
    "ConvWindow",
    "LstmWindow",
    "PillarMap",
    "Pillars",
    "PointNet2",
    "RadarPoints",
    "RangeDoppler",
    "RangeImage",
    "Raster",
    "SensorEncoder",
    "SensorTokens",
    "VectorToken",
    "build_sensor_encoder",
]

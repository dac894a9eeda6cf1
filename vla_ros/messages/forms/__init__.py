"""The forms in which a message reaches a policy: images, points, vectors. No topics, no time, no ROS import."""

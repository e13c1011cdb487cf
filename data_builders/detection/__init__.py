"""3D detection: the detector, boxes and their geometry, and KITTI's metric."""
